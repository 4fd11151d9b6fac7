"""Where an unfinished run stands, in one file that is always whole: a header and arrays."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from tf_vitcnn.errors import UNREADABLE, BadInput
from tf_vitcnn.tables.files import Paths, replacing

HEADER = "header"


def save(path: Paths, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Writes the state in one rename."""
    members: dict[str, Any] = {HEADER: np.array(json.dumps(header)), **arrays}
    with replacing(path) as part:
        if "://" not in str(part):
            with part.open("wb") as file:
                np.savez(file, **members)
            return
        buffer = io.BytesIO()  # an object of a store cannot be written here and there
        np.savez(buffer, **members)
        part.write_bytes(buffer.getvalue())


@contextlib.contextmanager
def reading(path: Paths, what: str) -> Iterator[tuple[dict[str, Any], Mapping[str, np.ndarray]]]:
    """The header and the arrays, each read when it is asked for; what cannot be read is refused as no `what`."""
    try:
        with epath.Path(path).open("rb") as file, np.load(file, allow_pickle=False) as saved:
            yield dict(json.loads(str(saved[HEADER]))), _Arrays(saved)
    except BadInput:
        raise
    except UNREADABLE as error:
        raise BadInput(f"{path}: not {what}; remove it to start anew") from error


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of an npz but its header; an AttributeError for a member that is no array."""

    def __init__(self, saved: Any) -> None:
        self.saved = saved

    def __getitem__(self, name: str) -> np.ndarray:
        return self.saved[name].view()  # NumPy hands a member without an array's head over as bytes

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.saved.files if name != HEADER)

    def __len__(self) -> int:
        return len(self.saved.files) - 1
