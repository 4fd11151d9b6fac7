"""A run that goes on with another number of replicas counts no image twice and leaves none out."""

import numpy as np
import pytest
import tensorflow as tf

from tests import toys
from tests.faults.processes import names
from tf_vitcnn.engine import door
from tf_vitcnn.engine.execute import Checkpoint
from tf_vitcnn.errors import BadInput

PAIR = "block00/resid/post:block01/resid/post"


class Killed(BaseException):
    pass


def run(replicas, directory=None):
    devices = [f"CPU:{i}" for i in range(replicas)]
    strategy = tf.distribute.MirroredStrategy(devices) if replicas > 1 else "cpu"
    with strategy.scope() if replicas > 1 else tf.device("CPU:0"):
        tf.keras.utils.set_random_seed(0)
        subject = toys.vit()
    setting = {"images": 40, "batch": 4, "repeats": 1, "images_that_count": 6, "of": (PAIR,)}
    return door.run("cka", subject, "noise:16", strategy=strategy, resume_dir=directory, **setting)


@pytest.fixture(scope="module")
def whole():
    return run(1)


def stopped(monkeypatch, after, replicas, directory):
    save = Checkpoint.save

    def killed(self, state, force=False):
        save(self, state, force=True)
        if state.step == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", killed)
        with pytest.raises(Killed):
            run(replicas, str(directory))


@pytest.mark.parametrize(("after", "before", "now"), [(3, 2, 1), (4, 1, 2)])
def test_goes_on(tmp_path, monkeypatch, whole, after, before, now):
    stopped(monkeypatch, after, before, tmp_path)
    assert names(tmp_path) == [".cka.toy_vit.resume.npz"]
    again = run(now, str(tmp_path))
    np.testing.assert_allclose(again.cka, whole.cka, atol=1e-5)
    np.testing.assert_allclose(again.cka_se, whole.cka_se, atol=1e-5)
    np.testing.assert_allclose(again.attrs["groups"]["cka"], whole.attrs["groups"]["cka"], atol=1e-5)
    found, expected = (table.attrs["beside"]["cka_images"] for table in (again, whole))
    assert list(found.image) == list(expected.image)
    np.testing.assert_allclose(found.influence, expected.influence, rtol=1e-3)
    assert names(tmp_path) == []


def test_refuses_what_does_not_split(tmp_path, monkeypatch, whole):
    stopped(monkeypatch, 3, 1, tmp_path)
    with pytest.raises(BadInput, match="3 batches are done, on 1 replicas; 2 cannot go on"):
        run(2, str(tmp_path))
