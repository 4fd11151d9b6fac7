import keras
import numpy as np
import pytest

from tf_vitcnn import models, opening, taps
from tf_vitcnn.models import ViTSpec
from tf_vitcnn.opening import Layout, additions, expose, layout, open_attention
from tf_vitcnn.surgery import segments, without_skips

keras_hub = pytest.importorskip("keras_hub")
L = keras.layers
SIZES = {"patch_size": 8, "num_layers": 6, "hidden_dim": 12, "num_heads": 3}
SMALL = {**SIZES, "num_layers": 2, "image_shape": (16, 16, 3)}


def images():
    return np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")


def randomised(model):
    for i, weight in enumerate(model.weights):
        if "float" in weight.dtype:
            weight.assign(0.3 * np.random.default_rng(i).normal(size=weight.shape))
    return model


def vit(**kwargs):
    return keras_hub.models.ViTBackbone(image_shape=(16, 16, 3), mlp_dim=24, **{**SIZES, **kwargs})


BACKBONES = {
    "vit": lambda: vit(num_layers=2, dropout_rate=0.1, attention_dropout=0.1),
    "vit without class token": lambda: vit(num_layers=2, use_class_token=False),
    "deit": lambda: keras_hub.models.DeiTBackbone(intermediate_dim=24, **SMALL),
    "dinov2": lambda: keras_hub.models.DINOV2Backbone(
        intermediate_dim=24, position_embedding_shape=(24, 24, 3), layer_scale_init_value=0.5, **SMALL
    ),
    "dinov2 registers": lambda: keras_hub.models.DINOV2Backbone(
        intermediate_dim=24,
        position_embedding_shape=(16, 16, 3),
        num_register_tokens=4,
        use_swiglu_ffn=True,
        apply_layernorm=True,
        **SMALL,
    ),
    "siglip": lambda: keras_hub.models.SigLIPVisionEncoder(intermediate_dim=24, **SMALL),
}
EXTRA = {
    "vit": ("cls",),
    "deit": ("cls", "dist"),
    "dinov2": ("cls",),
    "dinov2 registers": ("cls", "reg0", "reg1", "reg2", "reg3"),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_shows_the_sublayers_of_our_vit(name, tmp_path):
    closed = randomised(BACKBONES[name]())
    shown = open_attention(closed)
    names = list(shown.output)
    ours = list(models.build(ViTSpec(8, 12, 2, 3, 24), image_size=16, classes=0, seed=None).output)
    declared = [tap for tap in names if taps.parse(tap)]
    scaled = ("ls1/out", "ls2/out") if "dinov2" in name else ()
    inner = [tap for tap in declared if not tap.endswith(scaled) and not tap.startswith("head")]
    assert inner == [tap for tap in ours if not tap.startswith("head")]
    probing = list(models.build(ViTSpec(8, 12, 2, 3, 24, pool="map"), image_size=16, classes=0, seed=None).output)
    head = [tap for tap in probing if tap.startswith("head")] if name == "siglip" else []
    assert [tap for tap in declared if tap.startswith("head")] == head
    assert len([tap for tap in declared if tap.endswith(scaled)]) == 2 * len(scaled)
    before = closed(images() if isinstance(closed.input, keras.KerasTensor) else {"images": images()})
    after = shown(images())
    np.testing.assert_allclose(after[names[-1]], before, atol=1e-6)
    own = {id(w) for w in closed.weights}
    assert sum(id(w) in own for w in shown.weights) >= 2 + 16 * 2
    copied = sum(w.value.numpy().nbytes for w in shown.weights if id(w) not in own)
    assert copied == opening.about(shown).copied <= 4 * 12 * 4  # positions interpolated to a grid of 2 x 2; a probe
    found, notes = additions(shown)
    assert (len(found), notes) == (5 if name == "siglip" else 4, [])  # its head pools by attention, and adds an MLP
    assert layout(shown, "block01/attn/q") == Layout(2, 2, EXTRA.get(name, ()))
    assert opening.about(shown).paths["block01/resid/post"].endswith(("2/add_1", "1/add_1", "2/output_layer/add"))
    shown.save(tmp_path / "shown.keras")
    again = keras.models.load_model(tmp_path / "shown.keras")
    for tap, value in again(images()).items():
        np.testing.assert_array_equal(value, after[tap], err_msg=tap)
    assert [tap for tap in expose(again).output if taps.parse(tap)] == declared
    carry, got = images(), {}
    for segment in segments(shown, names, 0):
        filed, carry = segment(carry)
        got.update(filed)
    for tap, value in got.items():
        np.testing.assert_allclose(value, after[tap], atol=1e-6, err_msg=tap)
    cut = without_skips(shown, [1])(images())
    np.testing.assert_array_equal(cut["block01/resid/post"], cut[f"block01/{'ls2' if scaled else 'mlp'}/out"])


def test_one_set_of_weights_in_ours_and_in_keras_hubs():
    theirs = open_attention(randomised(vit()))
    ours = models.build(ViTSpec(8, 12, 6, 3, 24, gelu="exact"), image_size=16, classes=0)
    for layer in ours.layers:
        if layer.weights and layer.name != "stem.tokens":
            layer.set_weights(theirs.get_layer(layer.name).get_weights())
    positions = theirs.get_layer("stem.tokens").held[0]
    token = theirs.get_layer("vit_patching_and_embedding.concatenate").held[0]
    assert (token.path, positions.path) == (
        "vit_patching_and_embedding/class_token",
        "vit_patching_and_embedding/position_embedding/embeddings",
    )
    ours.get_layer("stem.tokens").set_weights([token, positions[None]])
    mine, hubs = ours(images()), theirs(images())
    assert [tap for tap in mine if not tap.startswith("head")] == list(hubs)
    for tap in hubs:
        np.testing.assert_allclose(mine[tap], hubs[tap], atol=2e-5, err_msg=tap)
    for tap in ("block05/attn/probs", "block05/mlp/act"):
        assert np.abs(hubs[tap]).max() > 0.1
        np.testing.assert_allclose(mine[tap], hubs[tap], atol=5e-6)


def test_a_classifier_around_a_backbone():
    classifier = keras_hub.models.ViTImageClassifier(backbone=vit(num_layers=2), num_classes=3)
    shown = open_attention(randomised(classifier))
    assert {"stem/tokens", "block01/attn/probs", "final/ln/out", "head/pooled", "head/logits"} <= set(shown.output)
    np.testing.assert_allclose(list(shown(images()).values())[-1], classifier(images()), atol=1e-6)


def test_two_encoders_in_one_model():
    x = keras.Input((16, 16, 3))
    one, two = (vit(num_layers=1, name=name) for name in ("one", "two"))
    model = randomised(keras.Model(x, L.Concatenate()([one(x), two(x)])))
    shown = open_attention(model)
    assert {"block00/attn/probs", "two/vit_encoder/transformer_block_1/mha/attn/probs"} <= set(shown.output)
    np.testing.assert_allclose(list(shown(images()).values())[-1], model(images()), atol=1e-6)
