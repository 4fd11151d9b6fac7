"""The demo's list of tables; the whole demo is slow."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_analysis_is_run_on_every_model_it_looks_at():
    from tf_vitcnn import analyses
    from tf_vitcnn.commands import demo

    todo = demo.every(["a", "b"], [("a", "b")], {"cka": {"batch": 4}})
    assert {table.analysis for table in todo} == set(analyses.names())
    assert [(j.model, j.against) for j in todo if j.analysis == "cka"] == [("a", None), ("b", None), ("a", "b")]
    assert [(j.model, j.against) for j in todo if j.analysis == "head_subsets"] == [("a", "b")]
    assert [(j.model, j.against) for j in todo if j.analysis == "skip_ratio"] == [("a", None), ("b", None)]
    assert all(t.flags == {"batch": 4} for t in todo if t.analysis == "cka")


def test_model_and_data_go_together(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/demo.py"), "--out", str(tmp_path / "d"), "--model", "vit_b32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--data" in done.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_the_demo_ends_with_a_report(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/demo.py"), "--out", str(tmp_path), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "report.html")
    claims = (tmp_path / "results/claims.csv").read_text()
    assert claims.count("untested") < claims.count("holds") + claims.count("fails")
