"""A local path for whatever stands after the '@': file, folder, gs://, https:// or kaggle: handle, cached once."""

from __future__ import annotations

from pathlib import Path

from tf_vitcnn.errors import BadInput

REMOTE = ("gs://", "https://", "http://", "kaggle:")


def local(where: str, architecture: str) -> Path:
    """The file or folder on this machine."""
    if where.startswith(REMOTE):
        raise BadInput(f"{where}: remote checkpoints are not supported yet; download it and give the path")
    path = Path(where).expanduser()
    if not path.exists():
        raise BadInput(f"{where}: no such file or folder, and no variant of {architecture} in the catalog")
    return path
