"""The arrays of a `.safetensors` file (or of all parts of a sharded one), each read alone.

The library checks the header against the file before anything is allocated; nothing in the file is executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.errors import UNREADABLE, BadInput

NAME, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def open_safetensors(path: Path) -> dict[str, Array]:
    """Every array by name, unread."""
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise BadInput(f"{path}: needs safetensors; pip install safetensors") from error
    import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy, as TensorFlow does)

    try:
        with safe_open(path, "numpy") as file:
            arrays = {}
            for name in file.keys():  # noqa: SIM118  (no mapping)
                piece = file.get_slice(name)
                kind = piece.get_dtype()
                # eight-bit floats and the like: no weights of a network that we know, so a type that is none
                dtype = np.dtype(TYPES.get(kind, "V1"))
                arrays[name] = Array(name, tuple(piece.get_shape()), dtype, _reading(path, name))
    except Exception as error:  # the library's own, which is a plain Exception, and the file system's
        raise _broken(path, error) from error
    if not arrays:
        raise BadInput(f"{path}: a file without arrays; expected a checkpoint's weights")
    return arrays


def _reading(path: Path, name: str) -> Any:
    def read() -> np.ndarray:
        from safetensors import safe_open

        try:
            with safe_open(path, "numpy") as file:
                return file.get_tensor(name)
        except Exception as error:
            raise _broken(path, error) from error

    return read


def _broken(path: Path, error: Exception) -> BadInput:
    reason = " ".join(str(error).split())[:150]
    return BadInput(f"{path}: truncated, damaged or not a .safetensors file ({reason}); fetch it again")


def open_folder(folder: Path) -> dict[str, Array]:
    """The arrays of a folder's `model.safetensors`, or of the parts that its index names."""
    whole, index = folder / NAME, folder / INDEX
    if whole.is_file() or not index.is_file():
        if not whole.is_file():
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
            raise BadInput(f"{folder}: no {NAME}; the folder holds {there}")
        return open_safetensors(whole)
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(part, str) for part in listed.values()):
        raise BadInput(f"{index}: expected a weight_map of names to files; fetch it again")
    if strange := [part for part in listed.values() if Path(part).name != part]:
        raise BadInput(f"{index}: names {strange[0]!r}, which is no file of its folder; fetch it again")
    arrays: dict[str, Array] = {}
    for part in sorted(set(listed.values())):
        arrays |= open_safetensors(folder / part)
    if missing := [name for name in listed if name not in arrays]:
        raise BadInput(f"{folder}: {missing[0]} and {len(missing) - 1} more are in no part; fetch it again")
    return arrays


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; expected it beside the weights") from error
    except (*UNREADABLE, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read ({' '.join(str(error).split())[:120]}); fetch it again") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path}: holds a {type(found).__name__}; expected an object")
    return found
