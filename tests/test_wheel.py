"""The wheel in an empty environment and an empty folder: everything that the commands need is in it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tf_vitcnn

ROOT = Path(__file__).resolve().parents[1]


def tracked():
    """The files that a clone has."""
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    names = files.stdout.splitlines()
    return [name for name in names if name.startswith("tf_vitcnn/") or ("/" not in name and not name.startswith("."))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in tracked():  # a copy: building leaves files
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(command, check=True, timeout=600)
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.slow
def test_what_is_in_it(wheel):
    assert wheel.name.startswith(f"tf_vitcnn-{tf_vitcnn.__version__}-py3")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert inside >= {name for name in tracked() if name.startswith("tf_vitcnn/")}
    assert "tf_vitcnn/py.typed" in inside
    assert not [name for name in inside if not name.startswith(("tf_vitcnn/", "tf_vitcnn-"))]


@pytest.mark.slow
def test_it_runs_in_an_empty_place(wheel, tmp_path):
    """The dependencies are this environment's, seen through a path file; the package itself is the wheel's."""
    venv, folder = tmp_path / "venv", tmp_path / "empty"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=300)
    python = venv / "bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, timeout=300, env=alone()
    )
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "zz_dependencies.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")) + "\n")
    said = subprocess.run(
        [python, "-c", "import tf_vitcnn; print(tf_vitcnn.__file__)"],
        cwd=folder, capture_output=True, text=True, check=False, env=alone(),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(str(site))
    done = run(venv, folder, "demo", "--quick")
    assert done.stdout.splitlines()[-1] == "demo/report.html"
    assert run(venv, folder, "report", "demo/results").stdout.strip() == "demo/results/report.html"
    assert run(venv, folder, "--version").stdout.strip() == tf_vitcnn.__version__


def alone():
    """The environment without a path to a clone."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(venv, folder, *words):
    command = [venv / "bin/tf-vitcnn", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=3600, env=alone())
    assert done.returncode == 0, done.stderr
    return done
