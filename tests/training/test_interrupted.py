"""Training stopped after a saved state goes on to the same weights and log, with other memory and other cores."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_train import TINY, same_but_speed, weights
from tf_vitcnn import read_table
from tf_vitcnn.training import fit, resume

ROOT = Path(__file__).parents[2]
HELD, READ = fit.Machine(jit=False, save_seconds=0), fit.Machine(jit=False, save_seconds=0, memory=0)


class Stopped(BaseException):
    """No one catches it."""


@pytest.fixture
def boundary(monkeypatch):
    """`stop` is the number of the saved state after which the run ends."""
    seen = {"passed": 0, "stop": None}
    save = resume.save

    def counted(*args):
        kept = save(*args)
        seen["passed"] += 1
        if seen["passed"] == seen["stop"]:
            raise Stopped
        return kept

    monkeypatch.setattr(resume, "save", counted)
    return seen


def same(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert same_but_speed(*(read_table(path.with_suffix(".log.csv")) for path in (one, other)))


def interrupted(boundary, directory, stop):
    boundary.update(passed=0, stop=stop)
    with pytest.raises(Stopped):
        fit.train(TINY, directory, "tiny", HELD)
    boundary.update(stop=None)
    return fit.train(TINY, directory, "tiny", READ)


def test_goes_on_with_less_memory(boundary, tmp_path):
    whole = fit.train(TINY, tmp_path / "whole", "tiny", HELD)
    assert boundary["passed"] > 4
    same(whole, interrupted(boundary, tmp_path / "stopped", boundary["passed"] // 2))


@pytest.mark.slow
def test_goes_on_from_every_boundary(boundary, tmp_path):
    whole = fit.train(TINY, tmp_path / "whole", "tiny", HELD)
    for stop in range(1, boundary["passed"] + 1):
        same(whole, interrupted(boundary, tmp_path / str(stop), stop))


CODE = """
import os, sys
from tests.training.test_train import TINY
from tf_vitcnn.training import fit, resume
stop, save, passed = int(sys.argv[2]), resume.save, []
def counted(*args):
    kept = save(*args)
    passed.append(1)
    if len(passed) == stop:
        os._exit(3)
    return kept
resume.save = counted
fit.train(TINY, sys.argv[1], "tiny", fit.Machine(jit=False, save_seconds=0))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="cores cannot be hidden")
def test_goes_on_with_another_number_of_cores(tmp_path):
    def run(directory, stop, cores):
        words = [sys.executable, "-c", CODE, str(tmp_path / directory), str(stop)]
        hide = lambda: os.sched_setaffinity(0, range(cores))  # noqa: E731
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=hide)

    assert run("whole", 0, 2).returncode == 0
    assert run("stopped", 3, 2).returncode == 3
    assert run("stopped", 0, 1).returncode == 0
    same(tmp_path / "whole/tiny.keras", tmp_path / "stopped/tiny.keras")
