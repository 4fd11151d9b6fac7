"""A disk that fills up under a training, a report or a run's totals: one line, no half file, and the run goes on."""

import io
import json
import sys

import numpy as np
import pytest

from tests import synthetic, toys
from tests.faults.processes import names
from tests.faults.test_full_disk import quota
from tests.faults.test_kills import arrays
from tf_vitcnn.analyses.skip_ratio.analysis import SkipRatio
from tf_vitcnn.engine.execute import tables
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.report.collect import collect, write_report
from tf_vitcnn.report.export import write_charts
from tf_vitcnn.training import fit
from tf_vitcnn.training.recipe import Recipe

TINY = Recipe(
    model="vit_custom", data="digits:train", epochs=2, fraction=0.05, patch=4, width=8, depth=1, heads=2, batch=24
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return arrays(fit.train(TINY, tmp_path_factory.mktemp("whole"), "m", fit.Machine(jit=False)))


# the log's CSV has some 150 bytes, its sidecar 1 kB, the card 2 kB, a state and the model more than 10 kB
@pytest.mark.parametrize(
    ("size", "pause", "file"),
    [(4000, 0, "m.state.npz"), (100, 1e9, "m.log.csv"), (1800, 1e9, "m.card.json"), (6000, 1e9, "m.keras")],
)
def test_training(tmp_path, monkeypatch, trained, size, pause, file):
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # captured output is a file with a quota too
    with quota(size), pytest.raises(BadInput, match=rf"{file}: cannot be written: File too large"):
        fit.train(TINY, tmp_path, "m", fit.Machine(jit=False, save_seconds=pause))
    assert not [name for name in names(tmp_path) if ".part" in name or "lock" in name or name.endswith(".keras")]
    again = arrays(fit.train(TINY, tmp_path, "m", fit.Machine(jit=False)))
    assert again.keys() == trained.keys()
    for name, value in trained.items():
        np.testing.assert_array_equal(value, again[name])


def test_report(tmp_path):
    synthetic.cka_results(tmp_path)
    found = collect(tmp_path)
    page = tmp_path / "report.html"
    with quota(100_000), pytest.raises(BadInput, match=r"report\.html: cannot be written: File too large"):
        write_report(found, page, tmp_path)
    assert not page.exists()
    write_report(found, page, tmp_path)
    before = page.read_bytes()
    with quota(100_000), pytest.raises(BadInput, match=r"report\.html: cannot be written"):
        write_report(found, page, tmp_path, title="another")
    assert page.read_bytes() == before
    with quota(1000), pytest.raises(BadInput, match=r"\.json: cannot be written"):
        write_charts(found, tmp_path / "charts", ["json"])
    assert not [name for name in names(tmp_path) if ".part" in name]


def session():
    return Session(Request((SkipRatio(),), "noise:16", images=8, batch=4, quiet=True), toys.shared("vit"), None)


def test_totals(tmp_path, monkeypatch):
    monkeypatch.setattr("tf_vitcnn.engine.resume.EVERY", 0.0)
    with quota(500), session() as bound, pytest.raises(BadInput, match=r"x\.npz: cannot be written: File too large"):
        tables(bound, tmp_path / "x.npz")
    assert names(tmp_path) == []


def test_totals_wait_for_a_table_that_found_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr("tf_vitcnn.engine.resume.EVERY", 0.0)

    def full(tables):
        raise BadInput("cannot be written")

    with session() as bound:
        with pytest.raises(BadInput, match="cannot be written"):
            tables(bound, tmp_path / "x.npz", full)
        assert names(tmp_path) == ["x.npz"]
        with np.load(tmp_path / "x.npz") as saved:
            assert json.loads(str(saved["header"]))["step"] == 2  # nothing is computed again
        assert len(tables(bound, tmp_path / "x.npz")) == 1
    assert names(tmp_path) == []
