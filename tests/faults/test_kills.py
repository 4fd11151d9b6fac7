"""SIGKILL at thirty random moments: the same command goes on to the same bytes, and leaves nothing else."""

import io
import json
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest

from tests import synthetic
from tests.faults.processes import Kills, names

KILLS = 30


def analyze(out):
    flags = "--model vit_ti16@random --image-size 32 --data noise:32 --images 240 --batch 20 --repeats 2"
    return ["analyze.py", "cka,skip_ratio", *flags.split(), "--taps", "block0[01]/*", "--out", out]


def same_tables(whole, killed, unfinished=False):
    for name in (name for name in names(whole) if name.endswith(".csv")):
        if unfinished and not (killed / name).exists():
            continue
        for file in (name, name.replace(".csv", ".groups.npz")):
            assert (killed / file).read_bytes() == (whole / file).read_bytes()
        sidecars = [json.loads((root / name).with_suffix(".json").read_text()) for root in (whole, killed)]
        assert sidecars[0] | {"environment": 0} == sidecars[1] | {"environment": 0}
    assert unfinished or names(killed) == names(whole)


def train(out):
    flags = "--model vit_custom --data digits:train --val digits:test --patch 4 --width 8 --depth 1 --heads 2"
    flags += " --fraction 0.3 --epochs 16 --mixup 0.2 --shift 0.1 --jit off --save-seconds 0 --name m"
    return ["train.py", *flags.split(), "--out", out]


def arrays(model):
    """The weights in a .keras file by their place."""
    found = {}
    with zipfile.ZipFile(model) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def same_training(whole, killed, unfinished=False):
    if unfinished and not (killed / "m.keras").exists():
        return
    ours, theirs = arrays(whole / "m.keras"), arrays(killed / "m.keras")
    assert ours.keys() == theirs.keys() and len(ours) > 10
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
    logs = [pd.read_csv(root / "m.log.csv").drop(columns="images_per_second") for root in (whole, killed)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    other = {"seconds": 0, "utc": 0, "git_commit": 0}  # who commits meanwhile does not fail this
    cards = [json.loads((root / "m.card.json").read_text()) | other for root in (whole, killed)]
    assert cards[0] == cards[1]
    assert unfinished or names(killed) == names(whole)


def report(out):
    return ["report.py", out]


def same_page(whole, killed, unfinished=False):
    for name in ("report.html", "claims.csv"):
        if unfinished and not (killed / name).exists():
            continue
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert unfinished or names(killed) == names(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "same", "early", "prepare"),
    [
        (analyze, same_tables, 0.25, lambda out: None),
        (train, same_training, 0.25, lambda out: None),
        (report, same_page, 0.0, synthetic.cka_results),
    ],
    ids=["analyze", "train", "report"],
)
def test_thirty_kills(tmp_path, words, same, early, prepare):
    kills = Kills(words, same, tmp_path, early, prepare).undisturbed()
    runs = kills.survive(KILLS)
    print(f"{words(0)[0]}: {KILLS} kills survived by {runs} runs of {kills.life:.1f} s, the same bytes each time")
