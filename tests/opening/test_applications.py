"""Every class of keras.applications: opened it equals itself, on the same weights, from a file too, within seconds."""

import gc
import time

import keras
import numpy as np
import pytest

from tf_vitcnn.opening import about, expose
from tf_vitcnn.surgery import segments

CLASSES = sorted(name for name, value in vars(keras.applications).items() if callable(value) and name[0].isupper())
FAST = ("ResNet50", "MobileNetV3Small", "ConvNeXtTiny")
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
SECONDS = 5


@pytest.fixture
def model(request):
    """A network of a class on seeded weights; nothing of it stays."""
    keras.utils.set_random_seed(len(request.param))
    size = SMALLEST.get(request.param, 32)
    yield getattr(keras.applications, request.param)(weights=None, input_shape=(size, size, 3), classes=5)
    keras.backend.clear_session()
    gc.collect()


def holds_for(model, folder):
    """What an opened network owes its original."""
    x = 100 * np.random.default_rng(0).normal(size=(2, *model.input.shape[1:])).astype("float32")
    start = time.process_time()
    shown = expose(model)
    seconds = time.process_time() - start
    print(f"{model.name}: {len(shown.operations)} calls, {len(shown.output)} taps, opened in {seconds:.1f} s")
    assert seconds < SECONDS
    got = {tap: np.asarray(value) for tap, value in shown(x, training=False).items()}
    np.testing.assert_array_equal(got[list(got)[-1]], model(x, training=False))
    assert {id(w) for w in shown.weights} == {id(w) for w in model.weights}
    assert (about(shown).copied, about(shown).notes) == (0, [])
    shown.save(folder / "shown.keras")
    for tap, value in keras.models.load_model(folder / "shown.keras")(x, training=False).items():
        np.testing.assert_array_equal(value, got[tap], err_msg=tap)
    (folder / "shown.keras").unlink()
    carry = x  # cut into segments it gives the same taps
    for segment in segments(shown, list(got)):
        filed, carry = segment(carry)
        for tap, value in filed.items():
            scale = max(1.0, float(np.abs(got[tap]).max()))
            np.testing.assert_allclose(value, got[tap], atol=1e-6 * scale, err_msg=tap)


CASES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CLASSES]


@pytest.mark.parametrize("model", CASES, indirect=True)
def test_opened_equals_the_original_and_its_pieces(model, tmp_path):
    holds_for(model, tmp_path)


def test_there_are_many_classes():
    assert len(CLASSES) >= 38
