"""Ctrl-C in a training: the step's state is saved first, and the same call ends with the same weights."""

import signal

import pytest

from tests.faults.test_full_disk_more import TINY
from tests.faults.test_kills import arrays
from tf_vitcnn.training import fit
from tf_vitcnn.training.journal import Journal


def test_a_training_that_is_stopped_goes_on_from_its_step(tmp_path, monkeypatch):
    whole = arrays(fit.train(TINY, tmp_path / "whole", "m", fit.Machine(jit=False)))
    begin = Journal.on_epoch_begin

    def stopped(self, epoch, logs=None):
        begin(self, epoch, logs)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as once:
        once.setattr(Journal, "on_epoch_begin", stopped)
        with pytest.raises(KeyboardInterrupt, match=r"the state of step 1 of \d+ is kept; the same command goes on"):
            fit.train(TINY, tmp_path / "stopped", "m", fit.Machine(jit=False))
    again = arrays(fit.train(TINY, tmp_path / "stopped", "m", fit.Machine(jit=False)))
    assert again.keys() == whole.keys()
    assert all((again[name] == whole[name]).all() for name in whole)
