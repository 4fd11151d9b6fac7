"""A watch over every fault test: its time, the memory it takes, and what it must never run."""

import signal
from pathlib import Path

import pytest


class Watch:
    """Peak memory of this process since the last reset, from the kernel."""

    def reset(self):
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM in /proc/self/status")


@pytest.fixture(scope="session")
def watch():
    return Watch()


class Hung(BaseException):
    """No reader catches it."""


def hung(*_):
    raise Hung("a reader took more than 30 seconds")


@pytest.fixture(autouse=True)
def alarm():
    before = signal.signal(signal.SIGALRM, hung)
    yield lambda: signal.alarm(30)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
