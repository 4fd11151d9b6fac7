"""The card of a trained model: what it is, what it was trained on, how well it does, and what made it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tf_vitcnn import files
from tf_vitcnn.errors import BadInput

FORMAT = 1
LIBRARIES = ("tf_vitcnn", "tensorflow", "keras", "numpy")


def write(path: Path, card: dict[str, Any]) -> None:
    """The card as JSON, whole or not at all."""
    text = json.dumps({"format": FORMAT, **card}, indent=1, ensure_ascii=False, allow_nan=False)
    files.write_text(path, text + "\n")


def read(path: Path) -> dict[str, Any]:
    """The card in a file."""
    try:
        card = json.loads(path.read_text())
        if not isinstance(card, dict) or not isinstance(card["recipe"], dict):
            raise ValueError
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise BadInput(f"{path}: not the card of a trained model; take another --name or remove it") from error
    return card


def environment() -> dict[str, Any]:
    """What computed: versions, machine, commit and time."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git_commit": git_commit(),
        "utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def git_commit() -> str | None:
    """The commit of this code, `-dirty` if it has changed since; None outside a repository."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
