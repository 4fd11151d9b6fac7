"""How every value of a table would change without one group of its images: `NAME.groups.npz` beside `NAME.csv`.

One float32 array [GROUPS, rows] per value column, rows in the table's order: the value without group g less the value;
of a linearised statistic -m_g / (GROUPS - 1), m_g being the mean influence of the group's images. With f_g = value +
change_g the standard error is se² = (GROUPS - 1) / GROUPS sum_g (f_g - mean f)².
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tf_vitcnn.errors import UNREADABLE, BadInput, first_line
from tf_vitcnn.stats.resample import GROUPS
from tf_vitcnn.tables.attached import Attached

ENDING = "groups.npz"
ATTRIBUTE = "groups"  # of `table.attrs`
HEADER = 1024  # bytes of an array's head at most


class Groups(Attached):
    """Changes [GROUPS, rows] by column, read only."""

    def __init__(self, changes: Mapping[str, Any]) -> None:
        super().__init__({column: np.array(change, np.float32) for column, change in changes.items()})
        for column, change in self.items():
            change.setflags(write=False)
            if change.ndim != 2 or len(change) != GROUPS:
                raise BadInput(f"groups of {column}: shape {change.shape}; expected [{GROUPS}, rows]")

    def taken(self, rows: Any) -> Groups:
        """Those of the rows at these places, in their order."""
        return Groups({column: change[:, rows] for column, change in self.items()})


def with_groups(table: pd.DataFrame, changes: Mapping[str, Any]) -> pd.DataFrame:
    """The table with the changes of its values [GROUPS, rows] beside it."""
    table.attrs[ATTRIBUTE] = Groups(changes)
    return table


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables under each other, with their groups."""
    parts: Iterable[Groups] = [table.attrs[ATTRIBUTE] for table in tables]
    columns = dict.fromkeys(column for part in parts for column in part)
    whole = pd.concat(tables, ignore_index=True)
    return with_groups(whole, {c: np.concatenate([part[c] for part in parts], axis=1) for c in columns})


def fit(groups: Groups, table: pd.DataFrame, values: Iterable[str]) -> None:
    """A ValueError unless the groups belong to columns of the table, row by row."""
    there = [column for column in values if column in table.columns]
    for column, change in groups.items():
        if column not in there:
            raise ValueError(f"changes of {column!r}, which is no value of the table: {', '.join(there)}")
        if change.shape != (GROUPS, len(table)):
            raise ValueError(f"{column} {change.shape}; expected ({GROUPS}, {len(table)}), as the table has rows")
        if np.isinf(change).any():
            raise ValueError(f"{column} holds infinity")


def to_bytes(groups: Groups, packing: int = zipfile.ZIP_BZIP2) -> bytes:
    """The file: the same bytes for the same numbers, a fifth fewer than `np.savez_compressed` makes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for column, change in groups.items():
            member = zipfile.ZipInfo(f"{column}.npy")  # of 1980, whenever it is written
            member.compress_type = packing
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, change, allow_pickle=False)
    return buffer.getvalue()


def read(path: Path, table: pd.DataFrame, values: Sequence[str]) -> Groups:
    """The groups of a table with these value columns; what is damaged or does not fit it is refused."""
    try:
        groups = Groups(_arrays(path, table))
        fit(groups, table, values)
    except UNREADABLE as error:
        raise BadInput(f"{path}: not the groups of this table: {first_line(error)}; remove it, or run again") from error
    return groups


def _arrays(path: Path, table: pd.DataFrame) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for member in archive.infolist():
            # before anything is unpacked: a small file may unpack to all of memory
            if not 0 <= member.file_size - 4 * GROUPS * len(table) <= HEADER:
                raise ValueError(f"{member.filename} unpacks to {member.file_size} bytes")
    with np.load(io.BytesIO(raw), allow_pickle=False) as saved:
        arrays = {column: saved[column] for column in saved.files}
    for column, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"{column} holds {array.dtype}; expected float32")
    return arrays
