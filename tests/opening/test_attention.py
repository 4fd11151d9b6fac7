import keras
import numpy as np
import pytest
from keras import ops

from tf_vitcnn.opening import expose, open_attention
from tf_vitcnn.surgery import segments

L = keras.layers
PARTS = ["q", "k", "v", "scores", "probs", "mixed", "out"]


def tokens(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def closed(layer, *shapes, **call):
    """A model of one attention layer that also gives its scores."""
    inputs = [keras.Input(shape) for shape in shapes]
    args = inputs * 2 if len(inputs) == 1 else inputs
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, layer(*args, **call, return_attention_scores=True))


def randomised(model):
    """Biases are zero at first: give every weight values."""
    for i, weight in enumerate(model.weights):
        weight.assign(0.4 * tokens(*weight.shape, seed=i))
    return model


LAYERS = {
    "self": (lambda: L.MultiHeadAttention(3, 4, name="mha"), [(6, 8)], {}),
    "dropout": (lambda: L.MultiHeadAttention(2, 4, dropout=0.5, name="mha"), [(6, 8)], {}),
    "cross": (lambda: L.MultiHeadAttention(2, 4, value_dim=5, output_shape=7, name="mha"), [(6, 8), (9, 10)], {}),
    "key": (lambda: L.MultiHeadAttention(2, 4, use_bias=False, name="mha"), [(6, 8), (9, 10), (9, 3)], {}),
    "causal": (lambda: L.MultiHeadAttention(2, 4, name="mha"), [(6, 8)], {"use_causal_mask": True}),
    "masked": (
        lambda: L.MultiHeadAttention(2, 4, name="mha"),
        [(6, 8)],
        {"attention_mask": np.tri(6, k=1, dtype=bool)[None]},
    ),
    "axes": (lambda: L.MultiHeadAttention(2, 4, attention_axes=(2,), name="mha"), [(3, 6, 8)], {}),
    "planes": (lambda: L.MultiHeadAttention(2, 4, name="mha"), [(3, 4, 8)], {}),
    "grouped": (lambda: L.GroupQueryAttention(4, 6, 2, name="mha"), [(6, 8)], {}),
    "grouped causal": (lambda: L.GroupQueryAttention(4, 2, 2, name="mha"), [(6, 8)], {"use_causal_mask": True}),
}


@pytest.mark.parametrize("case", LAYERS)
def test_opened_equals_closed(case, tmp_path):
    make, shapes, call = LAYERS[case]
    model = randomised(closed(make(), *shapes, **call))
    if len(model.outputs) == 1:
        pytest.skip("this Keras forgets the scores of grouped attention in a functional model")
    x = [tokens(2, *shape, seed=i) for i, shape in enumerate(shapes)]
    x = x[0] if len(x) == 1 else x
    out, scores = model(x)
    shown = open_attention(model)
    taps = shown(x)
    found = [name.split("/")[-1] for name in taps if name.startswith("mha/attn/")]
    assert found == ([] if case == "planes" else PARTS)  # over two axes at once: the names of its calls alone
    np.testing.assert_allclose(taps["mha/attention_output" if case == "planes" else "mha/attn/out"], out, atol=1e-6)
    probs = taps["mha/softmax" if case == "planes" else "mha/attn/probs"]
    np.testing.assert_allclose(probs, scores, atol=1e-6)
    assert {id(w) for w in model.weights if "seed" not in w.path} <= {id(w) for w in shown.weights}
    shown.save(tmp_path / "shown.keras")
    again = keras.models.load_model(tmp_path / "shown.keras")
    again = again([x] if isinstance(again.input, list) and len(shapes) == 1 else x)  # a list before Keras 3.11
    for name, value in taps.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


ALLOWED = np.tri(6, k=1, dtype=bool)[None, None]
FUSED = {
    "plain": {},
    "scaled": {"scale": 0.3},
    "masked": {"mask": ALLOWED},
    "causal": {"is_causal": True},
    "both": {"is_causal": True, "mask": ~ALLOWED | np.eye(6, dtype=bool)},
    "biased": {"bias": tokens(1, 4, 6, 6, seed=5), "scale": 0.5},
}


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("how", FUSED)
def test_the_single_operation_in_its_parts(how, groups):
    x, y = keras.Input((6, 4, 3)), keras.Input((6, groups, 3))
    call = {key: value if np.ndim(value) == 0 else ops.convert_to_tensor(value) for key, value in FUSED[how].items()}
    fused = L.Lambda(lambda parts: ops.dot_product_attention(*parts, **call), (6, 4, 3), name="layer")
    model = randomised(keras.Model([x, y], fused([L.Dense(3)(x), L.Dense(3)(y), L.Dense(3)(y)])))
    shown = open_attention(model)
    given = [tokens(2, 6, 4, 3), tokens(2, 6, groups, 3, seed=1)]
    got = {name: np.asarray(value) for name, value in shown(given).items()}
    assert [name for name in got if "/attn/" in name] == [f"layer/attn/{part}" for part in PARTS[:-1]]
    q, k, v, scores, probs, mixed = (got[f"layer/attn/{part}"] for part in PARTS[:-1])
    k, v = (np.repeat(t, 4 // t.shape[2], axis=2) for t in (k, v))
    scale, bias = FUSED[how].get("scale", 3**-0.5), FUSED[how].get("bias", 0.0)
    exp = np.exp(np.einsum("bqne,bkne->bnqk", q, k) * scale + bias)
    allowed = np.broadcast_to(FUSED[how].get("mask", True), exp.shape)
    exp = exp * (allowed & (np.tri(6, dtype=bool) if FUSED[how].get("is_causal") else True))
    np.testing.assert_allclose(probs, exp / exp.sum(-1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(np.exp(scores), exp, rtol=1e-5)
    np.testing.assert_allclose(mixed, np.einsum("bnqk,bkne->bqne", probs, v), atol=1e-6)
    if groups == 4:  # Keras' own operation wants a key for each query
        np.testing.assert_allclose(mixed, model(given), atol=1e-6)


def test_scores_queries_and_mixed_mean_what_they_say():
    x = keras.Input((6, 8))
    model = randomised(keras.Model(x, L.MultiHeadAttention(3, 4, name="mha")(x, x)))
    shown = open_attention(model)
    assert list(shown.output) == [f"mha/attn/{part}" for part in PARTS]
    taps = {name: np.asarray(value) for name, value in shown(tokens(2, 6, 8)).items()}
    q, k, v, scores, probs, mixed, _ = (taps[f"mha/attn/{part}"] for part in PARTS)
    np.testing.assert_allclose(scores, np.einsum("bqne,bkne->bnqk", q, k) / 2, atol=1e-6)  # sqrt(4)
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(-1, keepdims=True), probs, atol=1e-6)
    np.testing.assert_allclose(mixed, np.einsum("bnqk,bkne->bqne", probs, v), atol=1e-6)
    assert q.shape == (2, 6, 3, 4)
    assert len(segments(shown, list(shown.output), 0)) > 1  # every shape is static


def test_carried_masks_are_respected():
    words = keras.Input((6,), dtype="int32")
    x = L.Embedding(5, 8, mask_zero=True)(words)
    model = randomised(keras.Model(words, L.MultiHeadAttention(2, 4, name="mha")(x, x, return_attention_scores=True)))
    value = np.array([[1, 2, 3, 0, 0, 0], [4, 0, 1, 1, 0, 2]])
    out, scores = model(value)
    taps = open_attention(model)(value)
    np.testing.assert_allclose(taps["mha/attn/probs"], scores, atol=1e-6)
    np.testing.assert_allclose(taps["mha/attn/out"], out, atol=1e-6)


class Doubled(L.MultiHeadAttention):
    """Someone's own attention: our opener would not compute what it does."""

    def _compute_attention(self, query, key, value, *args, **kwargs):
        return super()._compute_attention(2 * query, key, value, *args, **kwargs)


class Block(L.Layer):
    """A composite layer of a user's."""

    def build(self, shape):
        self.norm, self.mha = L.LayerNormalization(), L.MultiHeadAttention(2, 4)
        self.dense = L.Dense(8, activation="relu")
        self.norm.build(shape)
        self.mha.build(shape, shape)
        self.dense.build(shape)

    def call(self, x):
        y = self.norm(x)
        x = x + self.mha(y, y)
        return x + self.dense(x)


def test_a_changed_attention_and_a_users_block_are_opened_as_they_are():
    x = keras.Input((6, 8))
    model = randomised(keras.Model(x, Block(name="two")(Block(name="one")(Doubled(2, 4, name="odd")(x, x)))))
    shown, value = open_attention(model), tokens(2, 6, 8)
    sites = ["norm", *(f"attn/{part}" for part in PARTS), "add", "dense/pre", "dense", "add_1"]
    assert list(shown.output) == [
        *(f"odd/attn/{part}" for part in PARTS),
        *(f"{block}/{site}".replace("/attn", "/mha/attn") for block in ("one", "two") for site in sites),
    ]
    taps = {name: np.asarray(tensor) for name, tensor in shown(value).items()}
    np.testing.assert_allclose(taps["two/add_1"], model(value), atol=1e-5)
    q, k = taps["odd/attn/q"], taps["odd/attn/k"]
    np.testing.assert_allclose(taps["odd/attn/scores"], np.einsum("bqne,bkne->bnqk", q, k), atol=1e-5)  # 2 / sqrt(4)


def test_inside_nested_models_and_shared_layers():
    inner_x = keras.Input((6, 8))
    shared = L.MultiHeadAttention(2, 4, name="mha")
    inner = keras.Model(inner_x, shared(inner_x, inner_x), name="inner")
    x = keras.Input((6, 8))
    model = randomised(keras.Model(x, inner(inner(x)) + shared(x, x[:, :3])))
    shown, value = open_attention(model), tokens(2, 6, 8)
    assert {"inner/mha/attn/probs", "inner#2/mha/attn/probs", "mha/attn/probs"} <= set(shown.output)
    assert shown.output["mha/attn/probs"].shape[1:] == (2, 6, 3)
    np.testing.assert_allclose(list(shown(value).values())[-1], model(value), atol=1e-6)
    assert {id(w) for w in shown.weights} == {id(w) for w in model.weights}


def test_a_model_with_nothing_to_open_is_exposed():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.Dense(2, name="b")])
    assert list(open_attention(model).output) == list(expose(model).output) == ["a", "b"]
