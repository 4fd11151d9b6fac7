"""Every image backbone of keras-hub: opened it equals itself, whatever its attention; what its graph shows."""

import keras
import numpy as np
import pytest

from tests.hub import BACKBONES, seeded
from tf_vitcnn.opening import about, open_attention, structure
from tf_vitcnn.surgery import segments

keras_hub = pytest.importorskip("keras_hub")
QUICK = ("dinov3", "mit", "vit_det", "mobilenetv5", "resnet_v1", "hgnetv2")
CASES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
# family, blocks, attention layers, extra tokens
SHOWS = {
    **{
        "vit": ("vit", 2, 2, 1),
        "deit": ("vit", 2, 2, 2),
        "dinov2": ("vit", 2, 2, 1),
        "dinov2_registers": ("vit", 2, 2, 5),
    },
    **{
        "dinov3": ("vit", 2, 2, 5),
        "clip": ("vit", 2, 2, 1),
        "metaclip_2": ("vit", 2, 2, 1),
        "siglip": ("vit", 2, 3, 0),
    },
    **{"swin": ("vit", 4, 4, 0), "mit": ("vit", 4, 4, 0), "vit_det": ("vit", 2, 2, 0), "mobilenetv5": ("vit", 1, 2, 0)},
    **{"mobilenet": ("resnet", 2, 0, 0), "resnet_v1": ("resnet", 4, 0, 0), "resnet_v2": ("resnet", 4, 0, 0)},
    **{"resnet_vd": ("resnet", 4, 0, 0), "efficientnet": ("resnet", 3, 0, 0), "cspnet": ("resnet", 3, 0, 0)},
    **{"hgnetv2": ("resnet", 1, 0, 0), "densenet": ("other", 0, 0, 0), "vgg": ("other", 0, 0, 0)},
    **{"xception": ("other", 0, 0, 0), "segformer": ("vit", 4, 4, 0), "deeplab_v3": ("resnet", 4, 0, 0)},
    **{"depth_anything": ("vit", 4, 4, 1), "retinanet": ("resnet", 8, 0, 0)},
}


@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.filterwarnings("ignore::UserWarning:keras_hub")
@pytest.mark.parametrize("name", CASES)
def test_opened_equals_the_original(name, tmp_path):
    make, side = BACKBONES[name]
    model = seeded(make(keras_hub))
    shown = open_attention(model, (side, side))
    for count in (1, 3):
        x = np.random.default_rng(count).normal(size=(count, side, side, 3)).astype("float32")
        whole = keras.tree.flatten(model(keras.tree.map_structure(lambda _, x=x: x, model.input), training=False))
        got = {tap: np.asarray(value) for tap, value in shown(x).items()}
        assert all(len(value) == count for value in got.values())
        for output in map(np.asarray, whole):
            same = [np.abs(v.reshape(output.shape) - output).max() for v in got.values() if v.size == output.size]
            assert min(same) <= 1e-6 * np.abs(output).max()
    shown.save(tmp_path / "shown.keras")
    for tap, value in keras.models.load_model(tmp_path / "shown.keras")(x).items():
        np.testing.assert_array_equal(value, got[tap], err_msg=tap)
    carry = x
    for segment in segments(shown, list(shown.output), 0):
        filed, carry = segment(carry)
        for tap, value in filed.items():
            np.testing.assert_allclose(value, got[tap], atol=1e-6 * np.abs(got[tap]).max(), err_msg=tap)
    found = structure(shown)
    assert (found["family"], found["depth"], len(found["attention"]), len(found["extra"])) == SHOWS[name]
    assert about(shown).notes == [] or name == "depth_anything"
    _probabilities_are_those_of_queries_and_keys(name, got)


def _probabilities_are_those_of_queries_and_keys(name, got):
    for tap in (tap for tap in got if tap.endswith("attn/probs")):
        at = tap.removesuffix("probs")
        probs, scores = got[tap], got[at + "scores"]
        exp = np.exp(scores - scores.max(-1, keepdims=True))
        np.testing.assert_allclose(probs, exp / exp.sum(-1, keepdims=True), atol=1e-6)
        if at + "q" not in got or name in ("swin", "vit_det"):
            continue  # a probe's queries are no tap; biases for relative places are not in queries and keys
        q, k = (got.get(f"{at}{side}_rot", got[at + side]) for side in "qk")
        k = np.broadcast_to(k, (*k.shape[:2], q.shape[2], k.shape[3]))  # one key for all queries
        np.testing.assert_allclose(scores, np.einsum("bqne,bkne->bnqk", q, k) * q.shape[-1] ** -0.5, atol=1e-5)


def test_all_are_there():
    assert set(SHOWS) == set(BACKBONES)
    assert len(BACKBONES) == 26
