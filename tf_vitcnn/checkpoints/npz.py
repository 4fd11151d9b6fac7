"""The arrays of an .npz, each read alone and straight from the zip.

Headers are checked against the archive's directory before anything is allocated: a shape that the stored bytes cannot
hold is refused, and so is anything that would need pickle.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.errors import UNREADABLE, BadInput

CHUNK = 1 << 24
# deflate packs at most 1032 to one; a checkpoint packs far less, apart from heads that were left at zero
EXPANSION, SMALL = 60, 1 << 30


def open_npz(path: str | Path) -> dict[str, Array]:
    """Every array of the archive by name, unread."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected an .npz checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            bounded(path, entries)
            arrays = [_declared(path, archive, entry) for entry in entries]
    except BadInput:
        raise
    except UNREADABLE as error:
        raise _broken(path, error) from error
    named = {array.name: array for array in arrays}
    if not named:
        raise BadInput(f"{path}: an archive without arrays; expected a checkpoint's weights")
    if len(named) < len(arrays):
        raise BadInput(f"{path}: an array's name occurs twice; expected an archive written by numpy.savez")
    return named


def _broken(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path}: truncated, damaged or not an .npz archive ({error}); fetch it again")


def bounded(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuses an archive that declares far more than its bytes."""
    there, declared = path.stat().st_size, sum(entry.file_size for entry in entries)
    if sum(entry.compress_size for entry in entries) > there or declared > max(SMALL, EXPANSION * there):
        raise BadInput(f"{path}: {there} bytes declare {declared} bytes of arrays; expected an honest checkpoint")


def _declared(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    """An array as its header declares it."""
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as member:
        try:
            shape, fortran, dtype = _header(member)
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:120]
            raise BadInput(f"{path}: {entry.filename} is not a NumPy array ({reason}); fetch the file again") from error
        offset = member.tell()
    if dtype.hasobject:
        raise BadInput(f"{path}: {name} holds Python objects; expected plain arrays (nothing is unpickled)")
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size != entry.file_size - offset:
        held = entry.file_size - offset
        raise BadInput(f"{path}: {name} declares shape {shape}, {size} bytes, but holds {held}; fetch the file again")
    return Array(name, shape, dtype, lambda: _read(path, entry, offset, shape, fortran, dtype))


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


def _read(
    path: Path, entry: zipfile.ZipInfo, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> np.ndarray:
    """The values; the archive's checksum is verified on the way."""
    try:
        values = np.empty(shape[::-1] if fortran else shape, dtype)
        there = values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")
        with zipfile.ZipFile(path) as archive, archive.open(entry) as member:
            member.read(offset)
            done = 0
            while done < len(there):
                done += _fill(member, there[done : done + CHUNK])
            member.read(1)  # reaching the end is what compares the checksum
    except UNREADABLE as error:
        raise _broken(path, error) from error
    return values.T if fortran else values


def _fill(member: IO[bytes], room: memoryview) -> int:
    """Bytes read into the room."""
    data = member.read(len(room))
    if not data:
        raise EOFError("fewer bytes than declared")
    room[: len(data)] = data
    return len(data)
