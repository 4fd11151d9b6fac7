"""Checkpoints of timm and transformers run by these, where PyTorch is installed; counted where it is not."""

import os
import subprocess
import sys

import pytest

from tests.golden import torch_seeded
from tf_vitcnn.checkpoints.verify import verify
from tf_vitcnn.commands.verify import main

# a Python with the packages of tests/golden/torch_requirements.txt; this one unless the variable names another
PYTHON = os.environ.get("TORCH_PYTHON", sys.executable)
# newer names only memory has: no library could open a folder of them
LIVE = [name for name in torch_seeded.cases() if not name.endswith("_new")]


@pytest.fixture(scope="session")
def torch():
    done = subprocess.run([PYTHON, "-c", "import torch, timm, transformers"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{PYTHON} has no torch, timm and transformers: TORCH_PYTHON names one that has")
    return PYTHON


def spec_of(name, tmp_path):
    dialect = name.partition("_")[0]
    return f"{dialect}@{torch_seeded.folder(tmp_path / name, torch_seeded.case(name))}"


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVE)
def test_the_library_s_own_model_answers_the_same(name, tmp_path, torch):
    agreement = verify(spec_of(name, tmp_path), images=2, python=torch)
    print(name, agreement.lines[-1])
    assert agreement.agrees, agreement.lines


@pytest.mark.slow
def test_exit_codes(tmp_path, torch, monkeypatch, capsys):
    spec = spec_of("timm_augreg", tmp_path)
    assert main([spec, "--python", torch], "verify") == 0
    assert "DISAGREES" not in capsys.readouterr().out
    monkeypatch.setattr("tf_vitcnn.checkpoints.timm_vit.EPSILON", ((".*", 1e-2),))
    assert main([spec, "--python", torch], "verify") == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_without_pytorch_there_are_counts(tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 3\n")
    bare.chmod(0o755)
    agreement = verify(spec_of("hf_dinov2", tmp_path), python=str(bare))
    assert agreement.agrees is None
    assert "pip install torch transformers" in agreement.lines[-1]
