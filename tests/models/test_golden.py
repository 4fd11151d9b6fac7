"""What the official implementations compute from weights drawn by a rule; tests/golden/README.md says how."""

from dataclasses import replace

import numpy as np
import pytest

from tests.golden import official, seeded
from tf_vitcnn import models
from tf_vitcnn.models.specs import HybridStem, ViTSpec

# architecture: spec, pixels, classes; largest difference of logits, and of other sublayers over their deviation if
# that is above 1 (BiT's reach 100)
GOLDEN = {
    "ViT-B_32@21k_orig_224": (replace(models.SPECS["vit_b32"], pre_logits=768), 224, 21843, 1e-4, 1e-4),
    "ViT-Ti_16@1k_224": (models.SPECS["vit_ti16"], 224, 1000, 1e-4, 1e-4),
    "ViT-S_16-gap-norep@1k_224": (models.SPECS["vit_s16_gap"], 224, 1000, 1e-4, 1e-4),
    "BiT-R50x1@1000": (models.SPECS["bit_r50x1"], 128, 1000, 1e-4, 2e-4),
    "Mixer-B_16@1k_224": (models.SPECS["mixer_b16"], 224, 1000, 1e-5, 2e-5),
    "toy-hybrid@7_40": (ViTSpec(1, 48, 2, 3, 96, stem=HybridStem((2, 1, 1))), 40, 7, 1e-4, 1e-4),
    "toy-stem-only@7_64": (ViTSpec(8, 48, 1, 3, 96, stem=HybridStem()), 64, 7, 1e-4, 1e-4),
}
SHA256 = {
    "BiT-R50x1@1000": "b0199c8eabf218b87c755b0a5624c5fb662916a501e3bfc8c4ce16b9277874c3",
}


@pytest.fixture(scope="module", params=GOLDEN)
def case(request):
    """Expected arrays, what we compute, and the two bounds."""
    spec, size, classes, of_logits, of_blocks = GOLDEN[request.param]
    model = models.build(spec, image_size=size, classes=classes, seed=None)
    arrays = seeded.weights(request.param)
    assert request.param not in SHA256 or seeded.fingerprint(arrays) == SHA256[request.param]
    official.assign(model, arrays)
    with np.load(seeded.HERE / f"{request.param}.npz") as file:
        expected = dict(file)
    got = {name: np.asarray(value) for name, value in model(seeded.images(2, size)).items()}
    return expected, got, of_logits, of_blocks


def test_logits(case):
    expected, got, bound, _ = case
    logits = got["head/logits"]
    key = "logits" if "logits" in expected else "logits_first256"
    np.testing.assert_allclose(logits[:, : expected[key].shape[1]], expected[key], rtol=0, atol=bound)
    np.testing.assert_allclose(logits.mean(1), expected["logits_mean"], rtol=0, atol=bound)
    np.testing.assert_allclose(logits.std(1), expected["logits_std"], rtol=0, atol=bound)
    np.testing.assert_array_equal(np.argsort(-logits, 1)[:, :5], expected["logits_top5"])
    np.testing.assert_allclose(got["head/pooled"], expected["features"], rtol=0, atol=bound)


def test_every_sublayer(case):
    expected, got, _, bound = case
    for module, row in zip(expected["stats_names"], expected["stats"], strict=True):
        tap = official.tap(str(module))
        if tap == "head/pre_logits" or tap not in got:
            continue  # before the tanh; nothing but the identity where there is no such layer
        value = got[tap].swapaxes(1, 2) if tap.endswith("tokenmix/out") else got[tap]  # official: channels first
        atol = bound * max(1, row[1])
        np.testing.assert_allclose(seeded.summary(value), row, rtol=0, atol=atol, err_msg=tap)


def test_attention(case):
    expected, got, *_ = case
    for key in (key for key in expected if key.startswith("attention_")):
        _, block, what = key.split("_", 2)
        probs = got[f"block{int(block):02}/attn/probs"]
        probs = probs[0, :, 0] if what == "row0" else probs.mean((0, 2))
        np.testing.assert_allclose(probs, expected[key], rtol=0, atol=5e-5, err_msg=key)


def test_pre_logits(case):
    expected, got, bound, _ = case
    if "pre_logits_tanh" in expected:
        np.testing.assert_allclose(got["head/pre_logits"], expected["pre_logits_tanh"], rtol=0, atol=bound)
