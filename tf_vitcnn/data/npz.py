"""Arrays of an npz file from a stranger: mapped where they are stored plainly, and nothing in the file is believed.

`numpy.load` allocates what a header declares. Here the declared size must equal the member's size in the zip, that
size must fit the bytes that are there, objects (pickles) are refused, and so is a member that is deflated absurdly.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from tf_vitcnn.errors import UNREADABLE, BadInput, first_line

# zeros deflate a thousandfold, pictures hardly: a small file must not claim the whole memory
BOMB_BYTES, BOMB_RATIO = 2**26, 100
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field


class NpzFile:
    """The members of an npz: `name in file`, `file.array(name)`, `file.checksum(name)`."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise BadInput(f"{path}: no such file; expected an npz of arrays")
        try:
            self._zip = zipfile.ZipFile(self.path)
            self._members = {i.filename.removesuffix(".npy"): i for i in self._zip.infolist()}
        except UNREADABLE as error:
            raise BadInput(f"{path}: not an npz: {first_line(error)}") from error

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def checksum(self, name: str) -> tuple[str, int, int]:
        """What the zip says of a member: costs nothing, changes with the content, not with the compression."""
        member = self._members[name]
        return name, member.file_size, member.CRC

    def array(self, name: str) -> np.ndarray:
        """One array: a read-only map of the file if it is stored plainly, else read into memory."""
        if name not in self._members:
            raise BadInput(f"{self.path}: no array {name!r}; it has {', '.join(sorted(self._members)[:10]) or 'none'}")
        member = self._members[name]
        try:
            return self._read(member)
        except BadInput as error:
            raise BadInput(f"{self.path}: array {name!r}: {error}") from None
        except UNREADABLE as error:
            raise BadInput(f"{self.path}: array {name!r} cannot be read: {first_line(error)}") from error

    def _read(self, member: zipfile.ZipInfo) -> np.ndarray:
        length = self.path.stat().st_size
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise BadInput("compressed or encrypted in a way that NumPy never writes")
        if member.compress_size > length:
            raise BadInput("the file is shorter than it says")
        if member.file_size > max(BOMB_BYTES, BOMB_RATIO * member.compress_size):
            raise BadInput("a decompression bomb? if it is honest, save it without compression (numpy.savez)")
        with self._zip.open(member) as data:
            shape, fortran, dtype = _header(data)
            start = data.tell()
            count = _count(shape)
            if start + count * dtype.itemsize != member.file_size:
                raise BadInput(f"declares {list(shape)} of {dtype}, but holds {member.file_size - start} bytes")
            if member.compress_type == zipfile.ZIP_DEFLATED or not count:
                flat = np.frombuffer(data.read(), dtype)
                return flat.reshape(shape, order="F" if fortran else "C")
        with self.path.open("rb") as raw:
            offset = data_offset(raw, member) + start
        if offset + count * dtype.itemsize > length:
            raise BadInput("the file is shorter than it says")
        return np.memmap(self.path, dtype, "r", offset, shape, "F" if fortran else "C")


def data_offset(raw: Any, member: zipfile.ZipInfo) -> int:
    """Where in an open zip file a member's data begins."""
    raw.seek(member.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise BadInput("the zip's directory points astray")
    return member.header_offset + _LOCAL_HEADER.size + name + extra


def _header(data: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(data)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise BadInput(f"npy format {version}; expected 1.0 or 2.0")
    shape, fortran, dtype = read[version](data)
    if dtype.hasobject:
        raise BadInput("holds Python objects, which could run code; expected plain numbers")
    return shape, fortran, dtype


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:  # Python's integers do not overflow
        if side < 0:
            raise BadInput(f"declares a shape of {list(shape)}")
        count *= side
    return count
