"""The house: rooms in order (import-linter holds it), modules and functions that are read in one go."""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tf_vitcnn"


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


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_modules_and_functions_are_read_in_one_go():
    texts = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    assert {name: count for name, count in lines.items() if count > 320} == {}
    lengths = {
        f"{name}: {function.name}, line {function.lineno}": function.end_lineno - function.lineno + 1
        for name, text in texts.items()
        for function in functions(ast.parse(text))
    }
    assert {where: length for where, length in lengths.items() if length >= 50} == {}
    assert statistics.median(lengths.values()) <= 10


def test_few_modules_stand_outside_a_room():
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def the_flow():
    """The section that names a folder for each step."""
    return (ROOT / "docs/index.md").read_text().split("\n## The flow\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("text", [the_flow(), (ROOT / "CONTRIBUTING.md").read_text()], ids=["index", "CONTRIBUTING"])
def test_documents_name_folders_that_are_there(text):
    named = set(re.findall(r"`(?:tf_vitcnn/)?([a-z_]+)/(?:[A-Za-z_/.]*)`", text))
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert rooms & named
    assert named - rooms - analyses_named() - {"tf_vitcnn", "scripts", "tests", "benchmarks"} == set()


def analyses_named():
    return {path.name for path in (PACKAGE / "analyses").iterdir() if path.is_dir()}


def test_the_citation_has_the_version():
    import tf_vitcnn

    assert f"\nversion: {tf_vitcnn.__version__}\n" in (ROOT / "CITATION.cff").read_text()
