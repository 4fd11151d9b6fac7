"""Users' networks opened: equal to the original at any number of images, saved and loaded, cut into segments."""

import time

import keras
import numpy as np
import pytest

from tests import users
from tf_vitcnn import taps
from tf_vitcnn.opening import about, additions, expose, layout, open_attention, structure
from tf_vitcnn.surgery import segments, without_skips

SIZES = {"vit": (16, 24), "mixed": (16, 24), "swin": (32, 32), "normalised": (32, 24)}
NETWORKS = ("vit", "swin", "normalised", "several", "shared", "mixed", "opaque")


def images(name, count):
    size = SIZES.get(name, (16, 16))
    return np.random.default_rng(count).normal(size=(count, *size, 3)).astype("float32")


def relative(one, two):
    one, two = (np.asarray(keras.ops.cast(x, "float32")) for x in (one, two))
    return np.abs(one - two).max() / np.abs(two).max()


def values(model, x):
    return {name: np.asarray(keras.ops.cast(t, "float32")) for name, t in model(x, training=False).items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_opened_equals_the_original_saved_and_cut(name, tmp_path):
    model = getattr(users, name)()
    paths = [weight.path for weight in model.weights]
    shown = open_attention(model, SIZES.get(name))
    for count in (1, 3):
        x = images(name, count)
        outputs = model(x, training=False)
        outputs = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
        last = list(shown(x).values())[-1]
        assert min(relative(last, output) for output in outputs) <= (1e-6 if name != "mixed" else 0)
    assert {w.path for w in model.weights} == set(paths)  # nothing was renamed
    assert not any(layer.name.startswith("block00") for layer in model.layers)
    x = images(name, 2)
    before = values(shown, x)
    assert all(value.shape[0] == 2 for value in before.values())
    shown.save(tmp_path / "shown.keras")
    again = values(keras.models.load_model(tmp_path / "shown.keras"), x)
    assert list(again) == list(before)
    for tap, value in before.items():
        np.testing.assert_array_equal(again[tap], value, err_msg=tap)
    carry, got = x, {}
    for segment in segments(shown, list(shown.output), 0):
        filed, carry = segment(carry)
        got.update(filed)
    for tap, value in before.items():
        assert relative(got[tap], value) <= (1e-6 if name != "mixed" else 1e-2), tap


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_attention_recomputed_from_queries_and_keys(name):
    shown = open_attention(getattr(users, name)())
    got = values(shown, images(name, 2))
    found = [tap.removesuffix("probs") for tap in got if tap.endswith("attn/probs")]
    assert len(found) == {"vit": 2, "swin": 3}[name]
    for at in found:
        q, k, v = (got[at + part] for part in ("q", "k", "v"))
        w = "w" if q.ndim == 5 else ""
        scores = np.einsum(f"b{w}qne,b{w}kne->b{w}nqk", q, k) * q.shape[-1] ** -0.5
        if name == "swin":
            block = {"block00": "one", "block01": "two", "block02": "three"}[taps.block_of(at)]
            (bias,) = (weight for weight in shown.weights if weight.path.endswith(f"{block}/bias"))
            scores = scores + np.asarray(bias)
        np.testing.assert_allclose(got[at + "scores"], scores, atol=1e-5)
        probs = np.exp(scores - scores.max(-1, keepdims=True))
        np.testing.assert_allclose(got[at + "probs"], probs / probs.sum(-1, keepdims=True), atol=1e-6)
        np.testing.assert_allclose(
            got[at + "mixed"], np.einsum(f"b{w}nqk,b{w}kne->b{w}qne", got[at + "probs"], v), atol=1e-5
        )


def test_names_are_those_of_our_own_vit_and_the_same_at_every_run():
    one, two = (list(open_attention(users.vit()).output) for _ in range(2))
    assert one == two
    sites = [
        *("ln1/out", "attn/q", "attn/k", "attn/v", "attn/scores", "attn/probs", "attn/mixed", "attn/out", "resid/mid"),
        *("ln2/out", "mlp/pre", "mlp/act", "mlp/out", "ls2/out", "resid/post"),
    ]
    blocks = [f"block0{i}/{site}" for i in range(2) for site in sites]
    assert [tap for tap in one if tap.startswith("block0")] == blocks
    others = ["stem/embed", "stem/tokens", "blocks_0/attention/qkv", "blocks_1/attention/qkv"]
    assert sorted(set(one) - set(blocks)) == sorted([*others, "final/ln/out", "head/pooled", "head/logits"])
    shown = open_attention(users.vit())
    assert about(shown).paths["block01/mlp/act"] == "blocks_1/mlp/dense"
    tied = list(open_attention(users.shared()).output)
    assert [f"block0{i}/attn/probs" for i in range(3)] == [tap for tap in tied if tap.endswith("probs")]


def test_a_layer_scale_of_einsum_leaves_no_size_open():
    """EinsumDense("btc,c->btc", (None, 384)) left the number of tokens open: one layer of twelve, and a traceback."""
    shown = open_attention(users.vit())
    assert all(None not in tensor.shape[1:] for tensor in shown.output.values())
    assert len(additions(shown)[0]) == 4
    assert all(layout(shown, f"block01/{site}").extra == ("cls",) for site in ("attn/probs", "resid/post", "ls2/out"))
    cut = without_skips(shown, [1])
    got = values(cut, images("vit", 2))
    np.testing.assert_array_equal(got["block01/resid/post"], got["block01/ls2/out"])


def test_one_tensor_has_one_tap():
    """A layer of attention and its projection were one tensor under two names (12 of 174); reshapes were taps."""
    got = values(open_attention(users.vit()), images("vit", 2))
    flattened = [np.sort(value.ravel()).tobytes() for value in got.values()]
    assert len(set(flattened)) == len(flattened)
    model = users.normalised()
    assert not any("pad" in tap or "reshape" in tap for tap in expose(model, image_size=(32, 24)).output)


def test_weights_stay_the_models_own():
    model = users.vit()
    shown = open_attention(model)
    assert about(shown).copied == 0  # a token that was tiled and positions that were looked up keep their link
    assert {id(w) for w in model.weights if "seed" not in w.path} <= {id(w) for w in shown.weights}
    before = values(shown, images("vit", 2))["head/logits"]
    model.embed.cls.assign(model.embed.cls + 1.0)
    model.embed.position_embedding.embeddings.assign(2 * model.embed.position_embedding.embeddings)
    after = values(shown, images("vit", 2))["head/logits"]
    assert relative(after, before) > 1e-3
    np.testing.assert_allclose(after, model(images("vit", 2)), atol=1e-6)


def test_what_cannot_be_traced_stays_one_tap_and_is_named():
    shown = open_attention(users.opaque())
    (note,) = about(shown).notes
    assert note.startswith("asks (Asks) stays one tap: ")
    assert {"conv", "asks"} <= set(shown.output)


class Counted(keras.layers.Layer):
    """Divides by the number of images: no graph for any number of them."""

    def call(self, x):
        return x / keras.ops.cast(keras.ops.shape(x)[0], x.dtype)


def test_a_model_whose_code_wants_a_number_is_opened_for_one():
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, keras.layers.Conv2D(2, 3, name="conv")(Counted(name="counted")(x)), name="odd")
    shown = open_attention(model)
    assert shown.inputs[0].shape[0] == 8
    assert (
        about(shown)
        .notes[0]
        .startswith("odd is opened for 8 images at a time: counted.true_divide holds other numbers")
    )
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(shown(x)["conv"], model(x), atol=1e-6)


def test_structure_is_read_from_the_graph():
    found = structure(open_attention(users.swin()))
    assert (found["family"], found["pool"], found["patch_size"], found["depth"]) == ("vit", "gap", 4, 3)
    assert [(unit["stage"], unit["grid"]) for unit in found["units"]] == [(1, [8, 8])] * 4 + [(2, [4, 4])] * 2
    found = structure(expose(users.normalised(), image_size=(32, 24)))
    assert (found["family"], found["grid"], found["depth"]) == ("resnet", [16, 12], 2)
    assert structure(expose(users.several()))["family"] == "other"


def test_a_base_size_model_is_opened_in_seconds():
    model = users.ViT(patch=16, width=768, heads=12, depth=12)
    model(np.zeros((1, 224, 224, 3)))
    start = time.perf_counter()
    open_attention(model)
    assert time.perf_counter() - start < 15  # 2 s on two idle cores, where others may be at work
