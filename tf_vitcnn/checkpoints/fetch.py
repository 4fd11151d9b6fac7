"""A local path for whatever stands after the '@': file, folder, gs://, https:// or kaggle: handle, cached once.

Handles of TF-Hub and Kaggle pages live in tensorflow_hub's cache ($TFHUB_CACHE_DIR), which is asked first: then nothing
needs the network, nor tensorflow_hub's import (which needs `pkg_resources` and `tf_keras`). Plain files live in
$TF_VITCNN_CACHE (~/.cache/tf_vitcnn).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path
from typing import Any

from tf_vitcnn.devices.start import start_tensorflow, stderr_closed
from tf_vitcnn.errors import BadInput

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20
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
        return _download(where, "https://storage.googleapis.com/" + urllib.parse.quote(where[len("gs://") :]))
    path = Path(where).expanduser()
    if not path.exists():
        raise BadInput(f"{where}: no such file or folder; expected a checkpoint of {architecture}")
    return path


def _download(where: str, url: str) -> Path:
    """The cached copy of a plain file, fetched if it is not there."""
    folder = Path(os.environ.get("TF_VITCNN_CACHE") or Path.home() / ".cache" / "tf_vitcnn").expanduser()
    kept = folder / hashlib.sha256(where.encode()).hexdigest()[:16] / where.rpartition("/")[2]
    if kept.is_file():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # a name of its own, then a rename: no one ever sees half a file
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".part") as part:
            _copy(url, part)
            os.link(part.name, kept) if not kept.exists() else None
    except (OSError, urllib.error.URLError) as error:
        raise _unreachable(where, error) from error
    return kept


def _copy(url: str, part: Any) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        declared, done = response.headers.get("Content-Length"), 0
        while data := response.read(CHUNK):
            part.write(data)
            done += len(data)
    part.flush()
    if declared and done != int(declared):
        raise OSError(f"{done} of {declared} bytes arrived")


def _unreachable(where: str, error: Exception) -> BadInput:
    reason = " ".join(str(getattr(error, "reason", None) or error).split()).partition(" (Caused")[0][:150]
    return BadInput(f"{where}: cannot be fetched ({reason}); check the network and the name, or give a local path")


def _hub(handle: str) -> Path:
    """The folder of a TF-Hub handle: from the cache, else through tensorflow_hub."""
    cache = os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    kept = Path(cache).expanduser() / hashlib.sha1(handle.encode()).hexdigest()
    if kept.is_dir() and any(kept.iterdir()):
        return kept
    try:
        start_tensorflow()
        # what its import says (of pkg_resources, tf_keras, missing drivers) is nothing that our user can change
        with warnings.catch_warnings(), stderr_closed():
            warnings.simplefilter("ignore")
            import tensorflow_hub
    except Exception as error:
        raise BadInput(
            f"{handle}: tensorflow_hub cannot be imported ({error}); install setuptools<82 and tf_keras, "
            f"or give the folder of a downloaded SavedModel"
        ) from error
    try:
        return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # urllib's, TensorFlow's, tarfile's and its own: whatever it is, it was not fetched
        raise _unreachable(handle, error) from error


def _kaggle(handle: str) -> Path:
    """The folder of a Kaggle model, `kaggle:owner/model/framework/variation[/version]`, through kagglehub."""
    name = handle.removeprefix("kaggle:")
    if not 4 <= len([part for part in name.split("/") if part]) <= 5:
        raise BadInput(f"{handle}: expected kaggle:owner/model/framework/variation, and a version if you like")
    try:
        import kagglehub
    except ImportError as error:
        raise BadInput(f"{handle}: needs kagglehub; pip install kagglehub, or give a downloaded folder") from error
    try:
        return Path(kagglehub.model_download(name))
    except Exception as error:  # requests', its own, KeyboardInterrupt apart: whatever it is, it was not fetched
        raise _unreachable(handle, error) from error
