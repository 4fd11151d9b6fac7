"""Runs of the scripts as real processes: started, killed at a moment of their life, started again."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds: a run that takes longer hangs


def start(words, **variables):
    """A script under way; what it says waits in pipes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_VITCNN_CHECKPOINT_SECONDS": "0", **variables}
    command = [sys.executable, str(ROOT / "scripts" / words[0]), *map(str, words[1:])]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Exit status and the lines of stderr."""
    try:
        _, said = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    return process.returncode, said.splitlines()


def killed(process, moment):
    """Whether the process still ran when SIGKILL came, `moment` seconds after its start."""
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def until(true, process, limit=120):
    """Waits for something that a run does."""
    end = time.monotonic() + limit
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def cluster(size=2):
    """TF_CONFIG of each worker of a run on this machine."""
    sockets = [socket.socket() for _ in range(size)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(size)
    ]


@dataclass
class Kills:
    """Random kills of one command, again and again until it ends by itself; then of a new one.

    Args:
        words: the script and its flags for an output directory.
        same: raises unless the outputs in two directories agree; both may lack what is not written yet.
        early: the earliest kill, as a share of an undisturbed run's life.
    """

    words: object
    same: object
    root: Path
    early: float = 0.25
    prepare: object = lambda directory: None

    def undisturbed(self):
        """What every killed run must end with, and how long one takes."""
        self.whole = self._new("whole")
        begun = time.monotonic()
        status, said = finish(start(self.words(self.whole)))
        assert status == 0, said
        self.life = time.monotonic() - begun
        return self

    def survive(self, kills, seed=0, lanes=2):
        """Kills in all, in so many lanes at a time; how many runs it took to receive them."""
        with ThreadPoolExecutor(lanes) as pool:
            return sum(pool.map(lambda lane: self._lane(lane, kills // lanes, seed), range(lanes)))

    def _lane(self, lane, kills, seed):
        rng, runs, survived = np.random.default_rng([seed, lane]), 0, 0
        while survived < kills:
            directory = self._new(f"killed{lane}-{runs}")
            runs += 1
            ended = False
            while not ended and survived < kills:
                # the other lane makes this one slower than the undisturbed run
                moment = self.life * rng.uniform(self.early, 1.3)
                ended = not killed(start(self.words(directory)), moment)
                survived += not ended
                self.same(self.whole, directory, unfinished=True)
            if not ended:
                status, said = finish(start(self.words(directory)))
                assert status == 0, said
            self.same(self.whole, directory)
            shutil.rmtree(directory)
        return runs

    def _new(self, name):
        prepared = self.root / "prepared"
        if not prepared.exists():  # once: tables made again have another time
            prepared.mkdir(parents=True)
            self.prepare(prepared)
        return Path(shutil.copytree(prepared, self.root / name))


def names(directory):
    """Every file under a directory."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
