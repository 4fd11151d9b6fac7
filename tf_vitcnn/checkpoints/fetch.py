"""A local path for whatever stands after the '@': file, folder, gs://, https:// or kaggle: handle, cached once.

Handles of TF-Hub live in tensorflow_hub's cache ($TFHUB_CACHE_DIR), so that what it has fetched is found; it need not
be installed. Plain files live in $TF_VITCNN_CACHE (~/.cache/tf_vitcnn). $STORAGE_EMULATOR_HOST takes the place of
Google's storage, as in Google's own clients.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import urllib.parse
import zlib
from pathlib import Path

from filelock import FileLock

from tf_vitcnn.checkpoints.download import download, unreachable
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import cache

HUBS = ("tfhub.dev", "www.tfhub.dev", "kaggle.com", "www.kaggle.com")


def local(where: str, architecture: str) -> Path:
    """The file or folder on this machine."""
    if where.startswith("kaggle:"):
        return _kaggle(where)
    if where.startswith(("https://", "http://")):
        on_hub = urllib.parse.urlparse(where).netloc in HUBS or not Path(urllib.parse.urlparse(where).path).suffix
        return _hub(where) if on_hub else _download(where, where)
    if where.startswith("gs://"):
        # every released bucket is public: no credentials, no Google Cloud library
        storage = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        return _download(where, f"{storage.rstrip('/')}/" + urllib.parse.quote(where[len("gs://") :]))
    path = Path(where).expanduser()
    if not path.exists():
        raise BadInput(f"{where}: no such file or folder; expected a checkpoint of {architecture}")
    return path


def _download(where: str, url: str) -> Path:
    """The cached copy of a plain file."""
    return download(where, url, cache() / hashlib.sha256(where.encode()).hexdigest()[:16] / where.rpartition("/")[2])


def _hub(handle: str) -> Path:
    """The folder of a TF-Hub handle: from tensorflow_hub's cache, else fetched and put there."""
    hub = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules").expanduser()
    kept = hub / hashlib.sha1(handle.encode()).hexdigest()
    if not (kept.is_dir() and any(kept.iterdir())):
        packed = download(handle, f"{handle}?tf-hub-format=compressed", kept.with_suffix(".tar.gz"))
        with FileLock(f"{kept}.lock"):
            if not kept.is_dir():
                _unpacked(handle, packed, kept)
    return kept


def _unpacked(handle: str, packed: Path, kept: Path) -> None:
    """Unpacks a SavedModel beside its place and puts it there whole."""
    try:
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            with tarfile.open(packed) as archive:
                archive.extractall(folder, filter="data")  # nothing outside the folder, no devices, no links out
            Path(folder).rename(kept)
            Path(folder).mkdir()  # what the context takes away
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        packed.unlink(missing_ok=True)
        raise BadInput(f"{handle}: what was fetched is no packed SavedModel ({error}); check the handle") from error
    packed.unlink()


def _kaggle(handle: str) -> Path:
    """The folder of a Kaggle model, `kaggle:owner/model/framework/variation[/version]`, through kagglehub.

    kagglehub shows size and rate, goes on where it broke off and compares MD5; the lock is ours.
    """
    name = handle.removeprefix("kaggle:")
    if not 4 <= len([part for part in name.split("/") if part]) <= 5:
        raise BadInput(f"{handle}: expected kaggle:owner/model/framework/variation, and a version if you like")
    try:
        import kagglehub
    except ImportError as error:
        raise BadInput(f"{handle}: needs kagglehub; pip install kagglehub, or give a downloaded folder") from error
    lock = Path(tempfile.gettempdir()) / f"tf_vitcnn_kaggle_{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    try:
        with FileLock(lock):
            return Path(kagglehub.model_download(name))
    except Exception as error:  # requests', its own, KeyboardInterrupt apart: whatever it is, it was not fetched
        raise unreachable(handle, error) from error
