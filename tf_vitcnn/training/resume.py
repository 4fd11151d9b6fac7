"""The state of an unfinished training.

It holds every variable of network and optimizer, the step (and with it the place in the data) and the log so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables import state

WHAT = "the state of a training run"


@dataclass
class Progress:
    """Where a run is: steps done, the epoch's sums so far, finished rows of the log, seconds spent."""

    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    images: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def save(path: Path, identity: dict[str, Any], progress: Progress, variables: Sequence[Any]) -> bool:
    """Writes the state unless a variable is no longer finite; says whether it did."""
    arrays = [np.asarray(variable) for variable in variables]
    if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
        return False
    header = {"identity": identity, "progress": asdict(progress)}
    state.save(path, header, {f"v{i:05}": array for i, array in enumerate(arrays)})
    return True


def read_identity(path: Path) -> dict[str, Any]:
    """Which run the state belongs to."""
    with state.reading(path, WHAT) as (header, _):
        return dict(header["identity"])


def restore(path: Path, variables: Sequence[Any]) -> Progress:
    """Puts the state's values into the variables; where the run is."""
    with state.reading(path, WHAT) as (header, arrays):
        progress = Progress(**header["progress"])
        if len(arrays) != len(variables):
            raise BadInput(f"{path}: holds {len(arrays)} variables, expected {len(variables)}; remove it")
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"v{i:05}"])
    return progress
