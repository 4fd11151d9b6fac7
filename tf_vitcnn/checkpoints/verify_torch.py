"""The answers of timm and transformers beside ours, for their checkpoints, where PyTorch is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tf_vitcnn.checkpoints.original import MISSING
from tf_vitcnn.checkpoints.released import Opened
from tf_vitcnn.checkpoints.safetensors_file import NAME
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

LIBRARY = {"timm": "timm", "hf": "transformers"}
ROOT = Path(__file__).parents[2]


def theirs(opened: Opened, images: np.ndarray, python: str | None) -> np.ndarray | None:
    """The original's answer for the network's input [n, h, w, 3]; None where PyTorch or the library is missing.

    `python` is the interpreter that has them, this one by default.
    """
    if opened.path.is_file() and opened.path.name != NAME:
        raise BadInput(f"{opened.path}: {LIBRARY[opened.dialect]} wants it to be called {NAME}; rename it to verify")
    folder = opened.path if opened.path.is_dir() else opened.path.parent
    stored = opened.found.image_size[0] if opened.found.image_size else 0
    with tempfile.TemporaryDirectory() as place:
        np.save(Path(place) / "images.npy", images)
        files = [str(Path(place) / f"{name}.npy") for name in ("images", "answer")]
        module = ["-m", "tf_vitcnn.checkpoints.original", opened.dialect, str(folder.resolve()), *files, str(stored)]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [python or sys.executable, *module]
        try:
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise BadInput(f"{command[0]}: cannot be run ({error}); expected a Python with torch") from error
        if done.returncode == MISSING:
            return None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]
            raise BadInput(f"{folder}: {LIBRARY[opened.dialect]} cannot run it ({reason}); try another version")
        return np.load(files[1])


def ours(subject: Subject, images: np.ndarray) -> tuple[str, np.ndarray]:
    """What our model answers with: logits, else what would be their input; two heads answer with their mean."""
    out = subject.model(images, training=False)
    for name in ("logits", "pre_logits", "norm", "pooled"):
        parts = [np.asarray(out[key]) for key in (f"head/{name}", f"head/{name}_dist") if key in out]
        if parts:
            return f"head/{name}", np.mean(parts, axis=0)
    raise AssertionError(list(out))
