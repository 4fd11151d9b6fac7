"""The rooms' order is held by import-linter: a forbidden import breaks the contract, wherever it hides."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def contracts(folder):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "tf_vitcnn", tmp_path / "tf_vitcnn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold(copy):
    done = contracts(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("tables/schema.py", "from tf_vitcnn.analyses import base"),
        ("charts/theme.py", "def later():\n    from tf_vitcnn.verdicts import claim"),
        ("subject.py", "if TYPE_CHECKING:\n    from tf_vitcnn.checkpoints import load"),
        ("stats/hsic.py", "from tf_vitcnn.stats import folded"),
        ("stats/folded.py", "from tf_vitcnn.devices import cores"),
    ],
    ids=["up", "inside a function", "for types only", "in a circle", "out of stats"],
)
def test_a_forbidden_import_breaks_one(copy, file, line):
    with (copy / "tf_vitcnn" / file).open("a") as module:
        module.write(f"\n\n{line}\n")
    done = contracts(copy)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
