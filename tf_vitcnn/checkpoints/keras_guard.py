"""A `.keras` file looked through before Keras opens it: what it would call, what it would read, what it would allocate.

Keras' safe mode refuses most of this in its latest versions, but not in the oldest that we support, and no version
asks whether the declared weights can be in the file. A saved model is a config (JSON) and arrays (HDF5). Here

- every object in the config comes from Keras' layers and functions, from tf_vitcnn, or is registered by the caller;
- no array lies in another file, and the arrays are no larger than the file that holds them;
- a layer's widths occur among the axes of the stored arrays.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_vitcnn.checkpoints.npz import bounded
from tf_vitcnn.data.npz import data_offset
from tf_vitcnn.errors import UNREADABLE, BadInput

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
CONFIG_BYTES = 2**26
PACKAGES = ("builtins", "keras", "keras_hub", "keras_cv", "keras_nlp", "tf_vitcnn")
# parts of Keras that change its settings, read files, or load other models
FORBIDDEN = ("backend", "callbacks", "config", "datasets", "export", "models", "saving", "utils", "wrappers")
CLASSES = ("Functional", "Model", "Sequential")  # the only objects of keras.models
# layers that carry code, or whose weights or words lie in another file
ALIEN = ("__lambda__", "Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "StringLookup")
WIDTHS = ("units", "filters", "input_dim", "output_dim", "num_heads", "key_dim", "value_dim", "kernel_size")


def inspect(path: Path) -> None:
    """Refuses a file that is not only a network and its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            bounded(path, archive.infolist())
            if archive.getinfo(CONFIG).file_size > CONFIG_BYTES:
                raise BadInput(f"{path}: its config is larger than any network's")
            objects = list(_objects(json.loads(archive.read(CONFIG))))
            axes = _axes(path, archive) if WEIGHTS in archive.namelist() else set()
        for part in objects:
            _only_a_layer(path, part)
            _fits(path, part, axes)
    except BadInput:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:150]
        raise BadInput(f"{path}: truncated, damaged or not a Keras model ({reason}); save it again") from error


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every object that the config names."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)


def _only_a_layer(path: Path, part: dict[str, Any]) -> None:
    """Refuses an object that is no layer, initializer, activation or the like."""
    import keras

    kind, module = part["class_name"], part.get("module")
    registered = part.get("registered_name")
    if isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None:
        return
    words = module.split(".") if isinstance(module, str) else ["builtins"]
    inner = [word for word in words[1:] if word != "src"]
    foreign = words[0] not in PACKAGES or (module is not None and not isinstance(module, str))
    inside = words[0] == "keras" and bool(inner) and inner[0] in FORBIDDEN
    if foreign or not isinstance(kind, str) or kind in ALIEN or (inside and not _is_model(inner[0], kind)):
        from tf_vitcnn.checkpoints.keras_obstacle import obstacle

        called = f"{module}.{part.get('config') if kind == 'function' else kind}"[:80]
        reason = obstacle(path) or f"asks for {called}, which is no layer of Keras; code from a file is not run"
        raise BadInput(f"{path}: {reason}")


def _is_model(module: str, kind: str) -> bool:
    return module == "models" and kind in CLASSES


def _fits(path: Path, part: dict[str, Any], axes: set[int]) -> None:
    """Refuses a layer that is wider than any stored array."""
    config = part.get("config")
    if not isinstance(config, dict):
        return
    for key in WIDTHS:
        value = config.get(key)
        for width in value if isinstance(value, list) else [value]:
            if isinstance(width, int) and width > 64 and width not in axes:
                raise BadInput(f"{path}: {config.get('name')} declares {key} {width}, but no array has such an axis")


def _axes(path: Path, archive: zipfile.ZipFile) -> set[int]:
    """The lengths of all axes of the stored arrays, after a look at where they are stored."""
    import h5py

    member = archive.getinfo(WEIGHTS)
    with tempfile.TemporaryFile() as spare, path.open("rb", buffering=0) as raw:
        if member.compress_type == zipfile.ZIP_STORED:
            # read where it lies: HDF5 jumps back and forth, for which a zip's own stream starts over each time
            stream: Any = _Part(raw, data_offset(raw, member), member.file_size)
        else:
            with archive.open(member) as packed:
                shutil.copyfileobj(packed, spare)
            stream = spare
        with h5py.File(stream, "r") as file:
            stored = list(_stored(path, file))
    declared = sum(size for size, _ in stored)
    if declared > member.file_size:
        raise BadInput(f"{path}: {member.file_size} bytes declare {declared} bytes of weights; expected an honest file")
    return {length for _, shape in stored for length in shape}


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, raw: io.RawIOBase, start: int, size: int) -> None:
        self._raw, self._start, self._size, self._at = raw, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._raw.seek(self._start + self._at)
        count = self._raw.readinto(memoryview(buffer).cast("B")[: max(0, self._size - self._at)]) or 0
        self._at += count
        return count


def _stored(path: Path, file: Any) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Bytes and shape of every array; one that lies outside is refused, a group is entered once."""
    import h5py

    pending, seen = [file], set()
    while pending:
        group = pending.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise BadInput(f"{path}: weight {name} is a link; expected the weights in the file itself")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Group) and address not in seen:
                seen.add(address)
                pending.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise BadInput(f"{path}: weight {name} lies in another file; expected it in the file itself")
                yield item.nbytes, item.shape or ()
