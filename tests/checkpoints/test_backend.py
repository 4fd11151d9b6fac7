import os
import subprocess
import sys
from pathlib import Path

ANALYZE = Path(__file__).parents[2] / "scripts" / "analyze.py"


def test_another_backend_is_refused_in_one_line():
    command = [sys.executable, str(ANALYZE), "cka", "--model", "vit_ti16@random", "--data", "noise", "--images", "16"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "KERAS_BACKEND is jax" in done.stderr
    assert not done.stdout
