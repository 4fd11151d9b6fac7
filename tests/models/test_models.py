import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf, softmax

from tests.golden import seeded
from tf_vitcnn import models, taps
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import HybridStem, MixerSpec, ResNetSpec, ViTSpec, family_of

TOYS = {
    "vit": ViTSpec(8, 24, 2, 3, 40, pre_logits=16),
    "vit_gap": ViTSpec(8, 24, 2, 3, 40, pool="gap"),
    "deit_distilled": ViTSpec(8, 24, 2, 3, 40, gelu="exact", distilled=True),
    "hybrid": ViTSpec(1, 24, 1, 3, 40, stem=HybridStem((2, 1))),
    "bit": ResNetSpec((1, 2)),
    "mixer": MixerSpec(8, 24, 2, 12, 40),
}


def images(size=(32, 32), n=2):
    return np.random.default_rng(0).uniform(-1, 1, (n, *size, 3)).astype("float32")


@pytest.fixture(scope="module", params=TOYS)
def toy(request):
    """A family's name, its toy and what the toy makes of two images."""
    model = models.build(TOYS[request.param], image_size=32, classes=7, seed=1)
    return request.param, model, {name: np.asarray(value) for name, value in model(images()).items()}


def test_the_ordered_taps_are_the_golden_ones(toy):
    name, _, values = toy
    lines = [f"{tap} {'x'.join(map(str, value.shape[1:]))}" for tap, value in values.items()]
    assert lines == (seeded.HERE / f"taps/{name}.txt").read_text().splitlines()


def test_every_tap_is_float32_and_made_by_the_layer_of_its_name(toy):
    _, model, values = toy
    assert list(values) == list(model.output) == taps.in_depth_order(values)
    for name, value in values.items():
        assert value.dtype == np.float32, name
        assert model.get_layer(taps.layer_name(name)).output is model.output[name]
        assert np.isfinite(value).all(), name
        assert np.std(value - value.mean(0)) > 1e-3, f"{name} says nothing about the image"


def test_no_other_layer_looks_like_a_tap(toy):
    _, model, values = toy
    assert {layer.name for layer in model.layers if taps.parse(taps.tap_name(layer.name))} == {
        taps.layer_name(name) for name in values
    }


def test_a_seed_fixes_the_weights(toy):
    name, model, _ = toy
    again, other = (models.build(TOYS[name], image_size=32, classes=7, seed=seed) for seed in (1, 2))
    for weight, same, different in zip(model.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, same)
        assert np.ptp(weight) == 0 or not np.array_equal(weight, different), weight.path
    drawn = [float(np.ravel(weight)[0]) for weight in model.weights if np.ptp(weight)]
    assert len(set(drawn)) == len(drawn), "two weights share their draws"


def test_a_logits_only_model_survives_saving(toy, tmp_path):
    _, model, values = toy
    keras.Model(model.input, model.output["head/logits"]).save(tmp_path / "toy.keras")
    loaded = keras.models.load_model(tmp_path / "toy.keras")
    again = keras.Model(loaded.inputs[0], loaded.outputs[0])  # Keras 3.10 makes lists of them
    np.testing.assert_array_equal(again(images()), values["head/logits"])
    found = [taps.tap_name(layer.name) for layer in loaded.layers if taps.parse(taps.tap_name(layer.name))]
    assert taps.in_depth_order(found) == [name for name in values if "dist" not in name]


@pytest.mark.parametrize("name", TOYS)
def test_a_block_without_skips_keeps_its_taps(name):
    spec = TOYS[name]
    with_skips = models.build(spec, image_size=32, classes=7)
    last = len(with_skips.output) and (sum(spec.units) if name == "bit" else spec.depth) - 1
    without = models.build(spec, image_size=32, classes=7, no_skip=(last,))
    assert list(without.output) == list(with_skips.output)
    sums = {layer.name for model in (with_skips,) for layer in model.layers if isinstance(layer, keras.layers.Add)}
    bare = {layer.name for layer in without.layers if isinstance(layer, keras.layers.Identity)}
    block = "stage2.unit01" if name == "bit" else f"block{last:02}"
    assert bare == {layer for layer in sums if layer.startswith(block)} != set()
    with pytest.raises(BadInput, match=f"no block {last + 1}"):
        models.build(spec, image_size=32, no_skip=(last + 1,))


@pytest.mark.parametrize("name", TOYS)
def test_every_weight_learns(name):
    model = models.build(TOYS[name], image_size=32, classes=7)
    with tf.GradientTape() as tape:
        out = model(images())
        loss = sum(tf.reduce_sum(tf.square(out[head])) for head in out if head.startswith("head/logits"))
    for weight, gradient in zip(model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True):
        assert gradient is not None, weight.path
        # a key's bias adds the same to all of a query's scores, a mixed token's the same to all of its channels
        assert weight.path.endswith(("attn.k/bias", "tokenmix.out/bias")) or np.abs(gradient).max() > 1e-6, weight.path


def test_half_precision_stays_close():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = {name: models.build(spec, image_size=32, classes=7) for name, spec in TOYS.items()}
    finally:
        keras.config.set_dtype_policy("float32")
    for name, model in half.items():
        full = models.build(TOYS[name], image_size=32, classes=7)
        logits = np.asarray(tf.cast(model(images())["head/logits"], tf.float32))
        np.testing.assert_allclose(logits, full(images())["head/logits"], atol=0.1, err_msg=name)


def test_without_its_skip_a_unit_has_no_projection():
    with_skips, without = (models.build(TOYS["bit"], image_size=32, no_skip=gone) for gone in ((), (1,)))
    assert set(with_skips.output) - set(without.output) == {"stage2/unit00/skip/out"}
    assert without.output["head/logits"].shape == (None, 1000)


def test_every_name_has_its_family():
    expected = {"vit": "vit", "deit": "deit", "bit": "bit", "mixer": "mixer"}
    for name, spec in models.SPECS.items():
        assert family_of(spec) == expected.get(name.split("_")[0], "hybrid"), name
    assert len(models.SPECS) == 9 + 9 + 5 + 6 + 6 + 5


@pytest.mark.parametrize(
    ("spec", "arguments", "words"),
    [
        ("vit_b33", {}, "did you mean 'vit_b32'"),
        ("vit_b32", {"image_size": 100}, "take for instance 96 x 96"),
        ("mixer_b32", {"image_size": (20, 64)}, "take for instance 32 x 64"),
        ("r_ti16", {"image_size": 100}, "patches of 8 pixels"),
        ("vit_b32", {"image_size": (0, 32)}, "positive"),
        ("bit_r50x1", {"classes": -1}, "0 for no head"),
        (ViTSpec(8, 25, 2, 3, 40), {}, "width=25"),
        (ViTSpec(8, 24, 0, 3, 40), {}, "depth=0"),
        (ResNetSpec((1, 0)), {}, "units"),
        (ResNetSpec((1,), 0.3), {}, "19 channels"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(spec, arguments, words):
    with pytest.raises(BadInput, match=words) as error:
        models.build(spec, **arguments)
    assert "\n" not in str(error.value)


def test_a_distilled_deit_is_what_numpy_makes_of_it():
    spec = TOYS["deit_distilled"]
    model = models.build(spec, image_size=(16, 24), classes=5, seed=3)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # biases and norms too
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    got = model(images((16, 24)))
    w = {weight.path: np.asarray(weight, "float64") for weight in model.weights}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def dense(x, name):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    patches = images((16, 24)).astype("float64").reshape(2, 2, 8, 3, 8, 3).swapaxes(2, 3).reshape(2, 6, 8 * 8 * 3)
    x = patches @ w["stem.embed/kernel"].reshape(-1, 24) + w["stem.embed/bias"]
    first = np.concatenate([w["stem.tokens/cls"], w["stem.tokens/dist"]], 1).repeat(2, 0)
    x = np.concatenate([first, x], 1) + w["stem.tokens/pos_embedding"]
    for block in ("block00", "block01"):
        y = norm(x, f"{block}.ln1.out")
        q, k, v = (np.einsum("btd,dne->bnte", y, w[f"{block}.attn.{s}/kernel"]) for s in "qkv")
        q, k, v = (a + w[f"{block}.attn.{s}/bias"][:, None] for a, s in ((q, "q"), (k, "k"), (v, "v")))
        probs = softmax(q @ k.swapaxes(2, 3) / np.sqrt(8), -1)
        y = np.einsum("bnte,ned->btd", probs @ v, w[f"{block}.attn.out/kernel"])
        x = x + y + w[f"{block}.attn.out/bias"]
        y = dense(norm(x, f"{block}.ln2.out"), f"{block}.mlp.pre")
        x = x + dense(y * (1 + erf(y / np.sqrt(2))) / 2, f"{block}.mlp.out")
    x = norm(x, "final.ln.out")
    np.testing.assert_allclose(got["block01/attn/probs"], probs, atol=2e-6)
    np.testing.assert_allclose(got["head/logits"], dense(x[:, 0], "head.logits"), atol=1e-5)
    np.testing.assert_allclose(got["head/logits_dist"], dense(x[:, 1], "head.logits_dist"), atol=1e-5)


@pytest.mark.parametrize(("width", "hidden"), [(16, 12), (16, 16), (24, 12), (12, 24)])
def test_mixing_adds_its_biases_along_its_own_axes(width, hidden):
    """16 tokens: Keras takes an addend of that length for a bias of the channels where there are 16 of them."""
    model = models.build(MixerSpec(8, width, 1, hidden, 40), image_size=32, classes=0, seed=1)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    out = {name: np.asarray(value) for name, value in model(images()).items()}
    (k1, b1), (k2, b2) = (
        [np.asarray(w) for w in model.get_layer(f"block00.tokenmix.{n}").weights] for n in ("pre", "out")
    )
    pre = np.einsum("btd,ts->bds", out["block00/ln1/out"], k1) + b1.reshape(-1)
    np.testing.assert_allclose(out["block00/tokenmix/pre"], pre, atol=1e-4)
    mixed = np.einsum("bds,st->btd", out["block00/tokenmix/act"], k2) + b2.reshape(-1, 1)
    np.testing.assert_allclose(out["block00/tokenmix/out"], mixed, atol=1e-4)
