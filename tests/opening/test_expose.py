import dataclasses

import keras
import numpy as np
import pytest

from tf_vitcnn import load, models, taps
from tf_vitcnn.checkpoints.keras_obstacle import obstacle
from tf_vitcnn.errors import BadInput
from tf_vitcnn.opening import about, expose, open_attention

L = keras.layers


def images(size=32, count=2):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype("float32")


def two_headed(name):
    x = keras.Input((8,))
    y = L.Dense(8, name="dense")(x) + 1.0
    return keras.Model(x, list(keras.ops.split(y, 2, axis=-1)), name=name)


def reloaded(path, x):
    model = keras.models.load_model(path)
    return model([x] if isinstance(model.input, list) else x, training=False)  # a list before Keras 3.11


def nested():
    """Nested functional and Sequential models with the same names inside, layers called twice, several outputs."""
    one, two = two_headed("one"), two_headed("two")
    tail = keras.Sequential([L.Dense(8, name="dense"), L.ReLU(name="relu")], name="tail")
    x = keras.Input((8,))
    shared = L.Dense(8, name="dense")
    y = shared(shared(x))
    first, _ = one(y)
    _, second = two(y * 2.0)
    return keras.Model(x, tail(tail(L.Concatenate(name="cat")([first, second]))))


def test_nested_models_are_flattened_on_the_same_weights(tmp_path):
    model, x = nested(), np.random.default_rng(0).normal(size=(3, 8))
    before = model(x)
    shown = expose(model)
    names = list(shown.output)
    assert [name for name in names if "add" not in name] == [
        *("dense", "dense#2", "one/dense", "two/dense", "cat"),
        *("tail/dense", "tail/relu", "tail#2/dense", "tail#2/relu"),
    ]
    values = shown(x)
    np.testing.assert_array_equal(values[names[-1]], before)
    np.testing.assert_array_equal(model(x), before)
    assert {id(w) for w in shown.weights} == {id(w) for w in model.weights}
    for name in names:
        part = keras.Model(shown.input, shown.output[name])
        part.save(tmp_path / "part.keras")
        np.testing.assert_array_equal(reloaded(tmp_path / "part.keras", x), values[name])


def test_sequential_and_selections():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.ReLU(name="b"), L.Dense(2, name="c")])
    assert list(expose(model).output) == ["a", "b", "c"]
    assert list(expose(model, ["c", "a"]).output) == ["a", "c"]
    assert list(expose(model, "[ab]").output) == ["a", "b"]
    assert list(expose(model, lambda name: name > "a").output) == ["b", "c"]


@pytest.mark.parametrize("name", ["vit_ti16", "deit_ti16", "r_ti16", "bit_r50x1", "mixer_s32"])
def test_ours_is_known_again_without_its_taps(name):
    short = {"units": (1, 2)} if name.startswith("bit") else {"depth": 2}
    spec = dataclasses.replace(models.spec_of(name), **short)
    model = models.build(spec, image_size=32, classes=4, seed=None)
    assert list(expose(model).output) == list(model.output)
    bare = keras.Model(model.input, model.output["head/logits"])
    assert list(open_attention(bare).output) == list(model.output)
    assert list(expose(bare).output) == list(model.output)


class Subclassed(keras.Model):
    def call(self, x):
        return x


class Asking(keras.Model):
    """Someone's own code that asks for values."""

    def call(self, x):
        return x * 2.0 if keras.ops.sum(x) > 0 else x


def test_bad_input():
    with pytest.raises(BadInput, match=r"'odd' \(Subclassed\) has not seen an image: give an image size, or call it"):
        expose(Subclassed(name="odd"))
    with pytest.raises(BadInput, match=r"'asking' .* cannot be traced .*: .*; its call may use keras.ops"):
        expose(Asking(name="asking"), image_size=(8, 8))
    with pytest.raises(BadInput, match="not built"):
        expose(keras.Sequential([L.Dense(2)]))
    with pytest.raises(BadInput, match="expected a Keras model, got int"):
        expose(3)
    with pytest.raises(BadInput, match=r"no tap matches 'dence'; nearest: dense"):
        expose(nested(), "dence")
    with pytest.raises(BadInput, match="selects none of the"):
        expose(nested(), lambda name: False)


def test_the_last_product_and_its_softmax_are_the_head():
    """They counted as layers in networks whose blocks have no name of ours, the probabilities in all."""
    x = keras.Input((8, 8, 3))
    pooled = L.GlobalMaxPooling2D(name="pool")(L.Conv2D(4, 3, activation="relu", name="conv")(x))
    hidden = L.Dense(6, activation="relu", name="hidden")(pooled)
    layers = ["conv/pre", "conv", "pool", "hidden/pre", "hidden"]
    shown = expose(keras.Model(x, L.Dense(2, activation="softmax", name="fc")(hidden)))
    assert list(shown.output) == [*layers, "head/logits", "head/probs"]
    assert taps.default(list(shown.output)) == layers
    assert about(shown).paths == {"head/logits": "fc/pre", "head/probs": "fc"}
    shown = expose(keras.Model(x, L.Softmax(name="softmax")(L.Dense(2, name="fc")(pooled))))
    assert list(shown.output) == [*layers[:3], "head/logits", "head/probs"]
    shown = expose(keras.Model(x, [L.Dense(2, name=name)(hidden) for name in ("one", "two")]))
    assert list(shown.output) == [*layers, "head/logits", "two"]
    assert list(expose(keras.Model(x, L.Conv2D(2, 1, name="map")(x))).output) == ["map"]


class Unregistered(L.Layer):
    def call(self, x):
        return x


def test_a_file_that_does_not_load_is_explained(tmp_path):
    path, x = tmp_path / "model.keras", keras.Input((4, 4, 3))

    def refused(model):
        model.save(path)
        with pytest.raises(BadInput) as caught:
            load(str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    said = refused(keras.Model(x, Unregistered(name="odd")(L.Conv2D(2, 1)(x))))
    assert "layer 'odd' is of class 'Unregistered', unknown to Keras: decorate Unregistered with @keras.saving" in said
    assert "layer 'doubled' is a Lambda" in refused(keras.Model(x, L.Lambda(lambda t: 2 * t, name="doubled")(x)))
    subclassed = Subclassed(name="odd")
    subclassed(np.zeros((1, 4, 4, 3)))
    assert "is of class 'Subclassed', unknown to Keras" in refused(subclassed)
    keras.Model(x, L.Conv2D(2, 1, name="conv")(x)).save(path)
    assert obstacle(path) is None
    path.write_bytes(b"no zip")
    assert obstacle(path) is None
