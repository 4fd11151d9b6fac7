import keras
import numpy as np
import pytest

from tf_vitcnn import models
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models import MixerSpec, ResNetSpec, ViTSpec
from tf_vitcnn.opening import additions, expose
from tf_vitcnn.surgery import without_skips

L = keras.layers
VIT = ViTSpec(patch=8, width=12, depth=3, heads=3, mlp=24)


def images(size=16):
    return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")


def test_a_block_of_a_vit_gives_its_branch_alone():
    model = models.build(VIT, image_size=16, classes=4)
    before = model(images())
    cut = without_skips(model, [1])
    after = cut(images())
    assert list(after) == list(before)
    assert {id(w) for w in cut.weights} == {id(w) for w in model.weights}
    names = list(before)
    for name in names[: names.index("block01/resid/mid")]:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    np.testing.assert_array_equal(after["block01/resid/mid"], before["block01/attn/out"])
    np.testing.assert_array_equal(after["block01/resid/post"], after["block01/mlp/out"])
    assert np.abs(after["head/logits"] - before["head/logits"]).max() > 1e-3
    for name, value in model(images()).items():
        np.testing.assert_array_equal(value, before[name])
    assert additions(cut)[1] == [f"block01/resid/{site} has no skip: it was taken out" for site in ("mid", "post")]


def test_equals_a_model_built_without_the_skip():
    model, built = (models.build(VIT, image_size=16, classes=4, seed=3, no_skip=no) for no in ((), (0, 2)))
    cut = without_skips(model, [0, 2])(images())
    for name, value in built(images()).items():
        np.testing.assert_allclose(cut[name], value, atol=1e-6)


@pytest.mark.parametrize(("which", "site", "branch"), [("attn", "mid", "attn/out"), ("mlp", "post", "mlp/out")])
def test_one_of_two(which, site, branch):
    after = without_skips(models.build(VIT, image_size=16, classes=4), 0, which)(images())
    np.testing.assert_array_equal(after[f"block00/resid/{site}"], after[f"block00/{branch}"])
    other = "post" if site == "mid" else "mid"
    assert (
        np.abs(after[f"block00/resid/{other}"] - after[f"block00/{'mlp' if which == 'attn' else 'attn'}/out"]).max() > 0
    )


def test_units_and_mixer_blocks_and_logits_alone():
    bit = models.build(ResNetSpec(units=(1, 2), width_factor=1), image_size=32, classes=4)
    after = without_skips(bit, [2])(images(32))
    np.testing.assert_array_equal(after["stage2/unit01/resid/post"], after["stage2/unit01/branch/out"])
    built = models.build(ResNetSpec(units=(1, 2), width_factor=1), image_size=32, classes=4, no_skip=[0])
    after = without_skips(built, 2)(images(32))
    np.testing.assert_array_equal(after["stage2/unit01/resid/post"], after["stage2/unit01/branch/out"])
    with pytest.raises(BadInput, match=r"block 0 of .* has no skip connection; blocks with one: 1, 2"):
        without_skips(built, 0)
    mixer = models.build(MixerSpec(patch=8, width=8, depth=2, tokens_mlp=4, channels_mlp=16), image_size=16, classes=4)
    bare = keras.Model(mixer.input, mixer.output["head/logits"])
    whole = without_skips(mixer, [1])(images())
    np.testing.assert_array_equal(whole["block01/resid/mid"], whole["block01/tokenmix/out"])
    np.testing.assert_array_equal(without_skips(bare, [1])(images()), whole["head/logits"])


def toy_resnet():
    """Three units as foreign networks write them: projection, `+` and a layer."""
    x = keras.Input((16, 16, 3))
    y = L.Conv2D(4, 3, name="stem")(x)
    a = L.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="a1")(y)
    y = L.Add(name="a_sum")([L.Conv2D(8, 1, strides=2, name="a_skip")(y), L.Conv2D(8, 1, name="a2")(a)])
    y = L.Conv2D(8, 3, padding="same", name="b1")(y) + y
    y = L.ReLU(name="relu")(y)
    c = L.Dropout(0.5, name="drop")(L.DepthwiseConv2D(3, padding="same", name="c1")(y))
    return keras.Model(x, L.GlobalAveragePooling2D(name="pool")(L.Add(name="c_sum")([y, c])))


def test_a_foreign_model_by_the_index_of_its_addition(tmp_path):
    model = toy_resnet()
    plus = next(name for name in expose(model).output if name.startswith("add"))
    cut = without_skips(model, [0, 1])
    cut.save(tmp_path / "cut.keras")
    again = keras.models.load_model(tmp_path / "cut.keras")
    np.testing.assert_array_equal(again([images()] if isinstance(again.input, list) else images()), cut(images()))
    after, before = without_skips(expose(model), [0, 1])(images()), expose(model)(images())
    np.testing.assert_array_equal(list(after.values())[-1], cut(images()))
    np.testing.assert_array_equal(after["stem"], before["stem"])
    np.testing.assert_array_equal(after["a_sum"], before["a2"])
    np.testing.assert_array_equal(after[plus], after["b1"])
    np.testing.assert_allclose(after["c_sum"], after["relu"] + after["c1"], atol=1e-6)


@pytest.mark.slow
def test_a_residual_network_of_keras_applications():
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=3)
    cut = without_skips(model, [0, 3])
    after, before = expose(cut)(images(32), training=False), expose(model)(images(32), training=False)
    np.testing.assert_array_equal(after["pool1_pool"], before["pool1_pool"])
    np.testing.assert_array_equal(after["conv2_block1_add"], before["conv2_block1_3_bn"])
    np.testing.assert_array_equal(after["conv3_block1_add"], after["conv3_block1_3_bn"])


def test_inside_a_nested_model():
    x = keras.Input((8,))
    inner = keras.Model(x, x + L.Dense(8, name="dense")(x), name="inner")
    y = keras.Input((8,))
    model = keras.Model(y, inner(inner(y)))
    value = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    dense = inner.get_layer("dense")
    np.testing.assert_allclose(without_skips(model, [1])(value), dense(value + dense(value)), rtol=1e-6)
    np.testing.assert_allclose(without_skips(model, [0])(value), (y := dense(value)) + dense(y), rtol=1e-6)
    np.testing.assert_allclose(without_skips(model, [0, 1])(value), dense(dense(value)), rtol=1e-6)


def test_bad_input():
    model = models.build(VIT, image_size=16, classes=4)
    with pytest.raises(BadInput, match="block 3 of 'vit' has no skip connection; blocks with one: 0 to 2"):
        without_skips(model, [3])
    with pytest.raises(BadInput, match="unknown kind of skip 'mid'; available: both, attn, mlp"):
        without_skips(model, [1], "mid")
    with pytest.raises(BadInput, match="no residual addition"):
        x = keras.Input((4,))
        without_skips(keras.Model(x, L.Dense(2)(x)), [0])
    bit = models.build(ResNetSpec(units=(1,), width_factor=1), image_size=32, classes=4)
    with pytest.raises(BadInput, match="'attn' skips are those of transformer"):
        without_skips(bit, [0], "attn")
