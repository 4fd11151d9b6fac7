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


def test_settings_shrink_to_the_images_there_are():
    from tf_vitcnn.commands import demo

    assert demo.fewer("cka", 100) == {"images": 100, "batch": 100}
    assert demo.fewer("cka", 5000) == {"images": 5000, "batch": 1024}
    assert demo.fewer("receptive_field", 5000) == {"images": 32}


def test_minibatches_shrink_to_what_fits(monkeypatch):
    from tf_vitcnn.commands import demo
    from tf_vitcnn.errors import TooLarge

    tried = []

    def analyze(chosen, flags):
        tried.append(flags.batch)
        if flags.batch != 48:
            raise TooLarge("too large", 48)

    monkeypatch.setattr(demo.analyze, "analyze", analyze)
    demo._one("cka", {"model": "m", "data": "noise", "batch": 1024, "repeats": 1})
    assert tried == [1024, 48]


@pytest.mark.slow
def test_ones_own_model_gets_every_table_that_it_can_and_the_rest_is_named_once(tmp_path):
    import keras

    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="stem")(images)
    for i in range(2):
        x = keras.layers.Add(name=f"sum{i}")([x, keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)])
    logits = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(images, logits).save(tmp_path / "mine.keras")
    command = [sys.executable, str(ROOT / "scripts/demo.py"), "--model", "mine.keras", "--data", "digits:test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "demo/report.html"
    left_out = [line for line in done.stderr.splitlines() if "left out" in line]
    assert len([line for line in left_out if "attention_distance" in line]) == 1
    assert (tmp_path / "demo/results/cka/mine.csv").exists()
