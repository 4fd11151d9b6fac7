"""scripts/tpu.sh: what it would ask Google's command line for."""

import re
import shlex
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tpu(*args):
    return subprocess.run(["bash", ROOT / "scripts/tpu.sh", *args], capture_output=True, text=True, check=False)


def words(*args):
    done = tpu("--dry-run", *args)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_a_machine_is_asked_for_in_the_queue_with_the_image_of_its_kind():
    (spot,) = words("create", "mine", "us-west4-a", "v5litepod-4", "--spot")
    assert spot[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "mine"]
    assert {"--node-id=mine", "--zone=us-west4-a", "--accelerator-type=v5litepod-4", "--spot"} <= set(spot)
    (plain,) = words("create", "mine", "z", "v6e-8")
    assert "--runtime-version=v2-alpha-tpuv6e" in plain and "--spot" not in plain


def test_patterns_reach_the_script_as_they_were_typed():
    ((*_, command),) = words("run", "mine", "z", "scripts/analyze.py", "cka", "--taps", "block0[01]/*", "a b")
    inner = shlex.split(command.removeprefix("--command="))
    assert inner[-5:] == ["--taps", "block0[01]/*", "a b", "--strategy", "tpu"]


@pytest.mark.parametrize("args", [(), ("creat",), ("create", "a", "b"), ("create", "a", "b", "c", "--sopt")])
def test_what_it_does_not_know_is_answered_with_how_to_use_it(args):
    done = tpu(*args)
    assert done.returncode == 2 and "scripts/tpu.sh create" in done.stdout and "delete" in done.stdout


def test_setup_installs_what_the_package_needs():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    needs = re.findall(r"^([\w-]+)", config["options"]["install_requires"], re.MULTILINE)
    script = (ROOT / "scripts/tpu.sh").read_text()
    # of another name there, only on old Pythons, or brought by scikit-learn
    assert {need for need in needs if need not in script} <= {"tensorflow", "tomli", "threadpoolctl"}
