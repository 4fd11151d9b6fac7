"""A worker of two lost or frozen: the other ends in time with one line, and both go on from there to the same bytes."""

import signal
import time

import pytest

from tests.faults.processes import cluster, finish, names, start, until
from tests.faults.test_kills import same_tables

BOUND = 120  # seconds


def words(out):
    flags = "--model vit_ti16@random --image-size 32 --data noise:32 --images 2400 --batch 8 --repeats 2"
    return ["analyze.py", "cka", *flags.split(), "--taps", "block0[01]/*", "--strategy", "multiworker", "--out", out]


def pair(out):
    return [start(words(out), TF_CONFIG=config) for config in cluster()]


def finished(workers):
    for status, said in [finish(worker) for worker in workers]:
        assert status == 0, said


def lost(out, victim, how):
    """Seconds until the other worker has ended, once one was lost while they computed."""
    state = out / "cka/.vit_ti16.resume.npz"
    before = state.stat().st_mtime_ns if state.exists() else 0
    workers = pair(out)
    until(lambda: state.exists() and state.stat().st_mtime_ns != before, workers[0])
    time.sleep(0.5)
    workers[victim].send_signal(how)
    begun = time.monotonic()
    status, said = finish(workers[1 - victim])
    took = time.monotonic() - begun
    workers[victim].kill()
    workers[victim].communicate()
    assert (status, len(said)) == (2, 1) and "another worker ended or cannot be reached" in said[0], (status, said)
    assert took < BOUND
    return took


@pytest.mark.slow
def test_the_other_worker_ends_and_both_go_on(tmp_path):
    finished(pair(tmp_path / "whole"))
    out = tmp_path / "lost"
    took = []
    for how in (signal.SIGKILL, signal.SIGSTOP):  # a machine that stops answering closes no connection
        took += [lost(out, victim, how) for victim in (1, 0)]
    finished(pair(out))
    same_tables(tmp_path / "whole", out)
    assert names(out) == names(tmp_path / "whole")
    ended = ", ".join(f"{seconds:.0f}" for seconds in took)
    print(f"two workers: 2 kills and 2 freezes survived, the same bytes; the other ended after {ended} seconds")


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_never_comes_is_not_waited_for(tmp_path, index):
    status, said = finish(start(words(tmp_path), TF_CONFIG=cluster()[index], TF_VITCNN_JOIN_SECONDS="5"))
    assert (status, len(said)) == (2, 1) and "after 5 seconds no worker listens at 127.0.0.1:" in said[0], (
        status,
        said,
    )
