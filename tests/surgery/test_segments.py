import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_vitcnn import models, taps
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models import MixerSpec, ResNetSpec, ViTSpec
from tf_vitcnn.models.specs import HybridStem
from tf_vitcnn.opening import graph
from tf_vitcnn.surgery import segments


def every_call(model):
    """The model with every call's output as a tap."""
    nodes = graph.calls(model.inputs, model.outputs)
    names = graph.tensor_names(nodes, model.inputs)
    return keras.Model(model.input, {names[id(t)]: t for node in nodes for t in node.outputs})


def toy(size=16):
    """Residual, multi-input and multi-output calls, a long live tensor, and two names for one tensor."""
    layers = keras.layers
    x = images = keras.Input((size, size, 3), name="images")
    early = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    x = early
    for i in range(3):
        y = layers.BatchNormalization(name=f"norm{i}")(x)
        y = layers.Dropout(0.5, name=f"drop{i}")(layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(y))
        x = layers.Add(name=f"add{i}")([x, y])
    x = layers.Concatenate(name="late")([x * 2.0, early])
    left, right = keras.ops.split(x, 2, axis=-1)
    return keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(left + right))


def chain(parts, images):
    taps, carry = {}, images
    for part in parts:
        filed, carry = part(carry)
        assert tuple(filed) == part.taps
        assert len(carry) == len(part.carry_shapes)
        taps.update(filed)
    assert carry == ()
    return taps


def images(size=16, count=2):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype("float32")


@pytest.mark.parametrize("budget", [None, 0, 9e3, 1e12])
def test_chain_equals_whole(budget):
    model = every_call(toy())
    whole = model(images(), training=False)
    parts = segments(model, list(model.output), budget)
    got = chain(parts, images())
    assert list(got) == list(model.output)
    for name, value in whole.items():
        np.testing.assert_allclose(got[name], value, atol=1e-6)
    assert (len(parts) == 1) == (budget == 1e12)


def test_smaller_budget_cuts_finer_and_is_kept():
    model = every_call(toy())
    names = list(model.output)
    lengths, peaks = [], []
    for budget in (1e12, 40e3, 20e3, 0):
        parts = segments(model, names, budget)
        lengths.append(len(parts))
        peaks.append(max(part.bytes_per_image for part in parts))
        assert budget == 0 or peaks[-1] <= budget
    assert lengths == sorted(lengths)
    assert peaks == sorted(peaks, reverse=True)


def test_carry_is_what_later_operations_read():
    model = every_call(toy())
    parts = segments(model, list(model.output), 0)
    for place, part in enumerate(parts[:-1]):
        made = {id(t) for p in parts[: place + 1] for node in p.nodes for t in node.outputs}
        read = {id(t) for p in parts[place + 1 :] for node in p.nodes for t in node.input_tensors}
        assert {id(t) for t in part.hands_on} == (made | {id(model.inputs[0])}) & read
        assert list(part.carry_shapes.values()) == [tuple(t.shape) for t in part.hands_on]


def test_runs_only_what_the_taps_need():
    model = every_call(toy())
    (part,) = segments(model, ["stem"])
    assert part.operations == ("stem",)
    assert part.bytes_per_image == 4 * 16 * 16 * (3 + 4)


def test_two_names_of_one_tensor():
    model = toy()
    tensor = model.get_layer("add1").output
    model = keras.Model(model.input, {"a": tensor, "b": tensor, "end": model.output})
    got = chain(segments(model, ["b", "end", "a"], 0), images())
    assert list(got) == ["a", "b", "end"]
    np.testing.assert_array_equal(got["a"], got["b"])


@pytest.mark.parametrize(
    "spec",
    [
        ViTSpec(patch=4, width=12, depth=3, heads=3, mlp=24, distilled=True),
        ViTSpec(patch=1, width=12, depth=1, heads=3, mlp=24, stem=HybridStem(units=(1, 1))),
        ResNetSpec(units=(2, 1), width_factor=1),
        MixerSpec(patch=4, width=8, depth=2, tokens_mlp=4, channels_mlp=16),
    ],
)
def test_chains_of_our_families(spec):
    model = models.build(spec, image_size=16, classes=3)
    whole = model(images())
    for budget in (None, 0):
        got = chain(segments(model, list(model.output), budget), images())
        assert list(got) == list(whole)
        for name, value in whole.items():
            np.testing.assert_allclose(got[name], value, atol=1e-6, err_msg=name)


def test_segments_of_a_vit_are_about_a_block():
    model = models.build(ViTSpec(patch=4, width=24, depth=4, heads=3, mlp=96), image_size=16, classes=0, seed=None)
    parts = segments(model, taps.default(list(model.output)))
    assert 4 <= len(parts) <= 8
    assert all(len(part.carry_shapes) == 1 for part in parts[:-1])  # the residual stream alone


@pytest.mark.parametrize("jit", [False, True])
def test_traces(jit):
    model = every_call(toy())
    names = list(model.output)
    whole = model(images(), training=False)
    carry = tf.constant(images())
    for part in segments(model, names):
        filed, carry = tf.function(part, jit_compile=jit)(carry)
        for name, value in filed.items():
            np.testing.assert_allclose(value, whole[name], atol=1e-5)


def test_runs_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = every_call(toy())
        parts = segments(model, list(model.output))
    step = tf.function(lambda x: chain(parts, x)["pool"])
    got = strategy.run(step, (tf.constant(images()),))
    np.testing.assert_allclose(got, model(images(), training=False)["pool"], atol=1e-6)


def test_bad_input():
    model = every_call(toy())
    with pytest.raises(BadInput, match="unknown tap 'stm'; did you mean 'stem'"):
        segments(model, ["stm"])
    with pytest.raises(BadInput, match="not a dict of taps"):
        segments(toy(), ["stem"])
    free = keras.Input((None, None, 3))
    with pytest.raises(BadInput, match="no fixed size"):
        segments(keras.Model(free, {"conv": keras.layers.Conv2D(2, 3)(free)}), ["conv"])


def test_cutting_hundreds_of_operations_is_quick():
    model = every_call(keras.applications.DenseNet121(weights=None, input_shape=(32, 32, 3)))
    assert len(model.output) > 300
    for budget in (None, 0):
        start = time.process_time()
        assert len(segments(model, list(model.output), budget)) > 10
        assert time.process_time() - start < 2


def test_live_sets_that_grow():
    x = images_in = keras.Input((16, 16, 3))
    for i in range(6):  # a dense block: each call reads all earlier ones
        x = keras.layers.Concatenate(name=f"all{i}")([x, keras.layers.Conv2D(4, 3, padding="same", name=f"new{i}")(x)])
    model = every_call(keras.Model(images_in, x))
    parts = segments(model, list(model.output), 0)
    sizes = [sum(np.prod(shape[1:]) for shape in part.carry_shapes.values()) for part in parts[:-1]]
    assert len(sizes) > 2
    assert sizes[-1] > sizes[0]
    whole, got = model(images(), training=False), chain(parts, images())
    for name, value in got.items():
        np.testing.assert_allclose(value, whole[name], atol=1e-6)
