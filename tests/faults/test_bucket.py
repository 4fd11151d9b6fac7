"""A run that keeps its totals and tables in a bucket: taken away at a moment, the same command goes on from there."""

import time
from pathlib import Path

import pytest

from tests.bucket import ROOT
from tests.faults.processes import finish, killed, names, start, until

HERE = Path(__file__).parent
IMAGES = 1600


def words(out):
    flags = f"--model vit_ti16@random --image-size 32 --data noise:32 --images {IMAGES} --batch 8 --repeats 1"
    imported = ["--import", HERE.parent / "bucket.py", HERE / "counted.py"]
    chosen = ["--taps", "block0[01]/*"]
    return ["analyze.py", "cka", *flags.split(), *chosen, *imported, "--out", f"gs://bucket/{out}"]


@pytest.mark.slow
def test_a_preempted_run_goes_on_from_the_bucket(tmp_path):
    out, read = tmp_path / "bucket", [tmp_path / f"{i}.txt" for i in range(3)]

    def run(name, i):
        return start(words(name), **{ROOT: str(tmp_path), "READ_IMAGES": str(read[i])})

    lost = run("lost", 0)
    until((out / "lost/cka/.vit_ti16.resume.npz").exists, lost)
    time.sleep(0.5)
    assert killed(lost, 0)
    for i, name in ((1, "lost"), (2, "whole")):
        status, said = finish(run(name, i))
        assert status == 0, said
    files = [f"cka/vit_ti16.{ending}" for ending in ("csv", "groups.npz", "json")]
    assert names(out / "lost") == names(out / "whole") == files
    for file in files[:2]:
        assert (out / "lost" / file).read_bytes() == (out / "whole" / file).read_bytes()
    again, whole = (len(path.read_text().split()) for path in read[1:])
    assert again < whole and whole >= IMAGES
