"""The commit that a result names is this code's own, and says when the code has changed since."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAY = "from tf_vitcnn.tables.provenance import git_commit; print(git_commit())"


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copied(folder):
    """As a wheel lays the package out: without the files around it."""
    shutil.copytree(ROOT / "tf_vitcnn", folder / "tf_vitcnn", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def commit_said(folder, **variables):
    command = [sys.executable, "-c", SAY]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin:/usr/local/bin", **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=folder, env=environment
    ).stdout.strip()


@pytest.fixture
def theirs(tmp_path):
    """Another project's repository."""
    root = tmp_path / "theirs"
    root.mkdir()
    (root / "setup.cfg").write_text("[metadata]\nname = theirs\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "theirs")
    return root


@pytest.mark.parametrize("place", ["venv/lib/python3/site-packages", "."], ids=["in their venv", "in their tree"])
def test_the_repository_around_an_installed_copy_is_never_named(theirs, place):
    assert commit_said(copied(theirs / place)) == "None"


@pytest.fixture
def checkout(tmp_path):
    """A checkout of ours, of one commit."""
    root = tmp_path / "ours"
    root.mkdir()
    copied(root)
    shutil.copy(ROOT / "setup.cfg", root)
    git(root, "init", "-q")
    (root / ".gitignore").write_text("__pycache__\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "ours")
    return root


def test_a_checkout_names_its_commit_and_whether_it_has_changed(checkout, theirs):
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit_said(checkout) == commit
    # as a hook of another repository calls us
    assert commit_said(checkout, GIT_DIR=str(theirs / ".git"), GIT_WORK_TREE=str(theirs)) == commit
    with (checkout / "tf_vitcnn/taps.py").open("a") as module:
        module.write("# changed\n")
    assert commit_said(checkout) == f"{commit}-dirty"
