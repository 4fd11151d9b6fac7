"""Two thousand steps hold what two hundred do: no trace, tensor or list grows with the images."""

import subprocess
import sys

import pytest

from tests.faults.processes import ROOT

CODE = """
import sys
from tests import toys
from tf_vitcnn import run
from tf_vitcnn.engine.resume import Checkpoint

resident, save = {}, Checkpoint.save

def watched(self, state, force=False):
    save(self, state, force)
    with open("/proc/self/status") as lines:
        resident[state.step] = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

Checkpoint.save = watched
more = {"repeats": 1} if sys.argv[1] == "cka" else {}
run(sys.argv[1], toys.vit(), "noise:16", images=8000, batch=4, **more)
assert max(resident) == 2000
print(resident[200], resident[2000])
"""


@pytest.mark.slow
@pytest.mark.parametrize("analysis", ["cka", "skip_ratio"])
def test_resident_memory(analysis):
    command = [sys.executable, "-c", CODE, analysis]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    print(
        f"{analysis}: {early / 1024:.0f} MB after 200 steps, {late / 1024:.0f} MB after 2000: {late / early:.3f} times"
    )
    assert late < 1.05 * early
