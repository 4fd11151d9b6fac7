import dataclasses

import keras
import pytest

from tf_vitcnn import models
from tf_vitcnn.errors import BadInput
from tf_vitcnn.opening import Addition, Layout, about, additions, expose, layout, structure

L = keras.layers


def build(name, **kwargs):
    """The architecture with its first two blocks only."""
    spec = dataclasses.replace(models.spec_of(name), **({"units": (1, 2)} if name.startswith("bit") else {"depth": 2}))
    return models.build(spec, image_size=kwargs.pop("size", 64), classes=3, seed=None, **kwargs)


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


def test_additions_of_a_vit_without_one_skip():
    found, notes = additions(build("vit_ti16", no_skip=[1]))
    assert len(found) == 2
    assert found[0] == Addition("block00/resid/mid", "stem/tokens", "block00/attn/out")
    assert found[1] == Addition("block00/resid/post", "block00/resid/mid", "block00/mlp/out")
    assert notes == [f"block01/resid/{site} has no skip: it was taken out" for site in ("mid", "post")]


def test_additions_of_a_bit_and_a_hybrid():
    found, notes = additions(build("bit_r50x1"))
    assert (len(found), notes) == (3, [])
    assert found[0] == Addition("stage1/unit00/resid/post", "stage1/unit00/skip/out", "stage1/unit00/branch/out")
    assert found[2].skip == "stage2/unit00/resid/post"
    found, notes = additions(build("r26_s32"))
    assert (len(found), notes) == (8 + 4, [])
    assert found[0].sum == "stage1/unit00/resid/sum"


def test_the_first_skip_of_a_mixer_is_its_embedding_in_another_shape():
    found, notes = additions(build("mixer_s32"))
    assert (len(found), notes) == (4, [])
    assert found[0] == Addition("block00/resid/mid", "stem/embed", "block00/tokenmix/out")


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("ResNet50", 16, Addition("stage1/unit00/resid/sum", "stage1/unit00/skip/out", "stage1/unit00/branch/out")),
        ("MobileNetV2", 10, Addition("block_2_add", "block_1_project_BN", "block_2_project_BN")),
        slow(
            "ResNet50V2",
            16,
            Addition("stage1/unit00/resid/post", "stage1/unit00/skip/out", "stage1/unit00/branch/out"),
        ),
        slow("ConvNeXtTiny", 18, None),
        slow("EfficientNetV2B0", 15, Addition("block2b_add", "block2a_project_bn", "block2b_drop")),
        slow("DenseNet121", 0, None),
    ],
)
def test_additions_of_foreign_networks(name, count, first):
    model = expose(getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3)))
    found, notes = additions(model)
    assert len(found) == count
    assert notes == []
    assert first is None or found[0] == first


def test_what_is_no_skip_is_said():
    x = keras.Input((8, 8, 4))
    a, b = L.Conv2D(4, 1, name="a")(x), L.Conv2D(4, 1, name="b")(x)
    y = L.Add(name="twins")([a, b])
    z = L.Conv2D(4, 1, name="c")(y)
    y = L.Add(name="leaky")([L.Conv2D(4, 1, name="p")(y), L.Conv2D(4, 1, name="d")(z)])
    y = L.Add(name="real")([y, L.Conv2D(4, 1, name="e")(y)]) + 1.0
    model = expose(keras.Model(x, L.Concatenate()([y, z])))
    found, notes = additions(model)
    assert found == [Addition("real", "leaky", "e")]
    assert notes == [
        "twins adds a and b: neither is recognised as a skip connection",
        "leaky adds p and d: neither is recognised as a skip connection",
    ]
    _, notes = additions(expose(keras.Model(x, y), ["real", "e"]))
    assert notes[-1].startswith("the addition real is left out: leaky is no tap")


def test_layouts_of_ours():
    model = build("deit_ti16_distilled", size=(64, 32))
    grid, tokens = Layout(4, 2), Layout(4, 2, ("cls", "dist"))
    assert layout(model, "stem/embed") == grid
    for tap in ("stem/tokens", "block01/attn/q", "block01/attn/probs", "block01/mlp/act", "final/ln/out"):
        assert layout(model, tap) == tokens
    assert layout(model, "head/pooled") is None
    assert layout(build("vit_s32_gap"), "block00/ln1/out") == Layout(2, 2)
    assert layout(build("vit_s32"), "block00/attn/mixed") == Layout(2, 2, ("cls",))
    mixer = build("mixer_s32")
    assert layout(mixer, "block00/tokenmix/pre") is None
    assert layout(mixer, "block00/tokenmix/out") == layout(mixer, "block00/chanmix/act") == Layout(2, 2)
    assert layout(build("r26_s32"), "block00/ln1/out") == Layout(2, 2, ("cls",))
    assert layout(build("bit_r50x1"), "stage2/unit01/conv2/out") == Layout(8, 8)
    with pytest.raises(BadInput, match="unknown tap 'block99/ln1/out'"):
        layout(mixer, "block99/ln1/out")


def test_stages():
    def stages(model):
        return [unit["stage"] for unit in structure(model)["units"]]

    assert stages(build("bit_r50x1")) == [1, 2, 2]
    model = expose(keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3)))
    assert stages(model) == [1] * 3 + [2] * 4 + [3] * 6 + [4] * 3
    assert about(model).paths["stage3/unit01/resid/post"] == "conv4_block2_out"
    model = expose(keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3)))
    assert stages(model) == [1, 2, 2, 3, 3, 3, 3, 3, 4, 4]


def test_a_skip_that_comes_out_of_a_nested_model_has_its_name():
    x = keras.Input((8, 8, 3))
    y = keras.Sequential([L.Conv2D(4, 1, name="conv"), L.LayerNormalization(name="norm")], name="stem")(x)
    z = L.Add(name="sum")([y, L.Conv2D(4, 1, name="b")(L.Conv2D(4, 3, padding="same", name="a")(y))])
    model = expose(keras.Model(x, z))
    assert additions(model) == ([Addition("sum", "stem/norm", "b")], [])
    assert list(expose(model).output) == list(model.output)
