"""What made a result: versions, commit, machine and time, the same for tables and trained models."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LIBRARIES = ("tf_vitcnn", "tensorflow", "keras", "numpy", "pandas")


def environment() -> dict[str, Any]:
    """What computed."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git_commit": git_commit(),
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """The commit of this code, `-dirty` if it has changed since; None where the code is no checkout of its own."""
    here = Path(__file__).resolve().parents[2]
    # an installed package, or a copy in somebody's tree, would name the repository that it lies in
    if not (here / ".git").exists() or not _ours(here / "setup.cfg"):
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    # as a hook of another repository sets them
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=plain)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def _ours(setup: Path) -> bool:
    """Whether that file is the one that names this package."""
    try:
        return "name = tf_vitcnn" in setup.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return False


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
