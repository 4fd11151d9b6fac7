"""The state of an unfinished run in one file that is always whole: killed at any moment, a run goes on from it.

The file holds every variable of network and optimizer, the step (and with it the place in the data) and the log so
far. It is written beside its name and renamed over it, so there is either the old state or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tf_vitcnn.errors import UNREADABLE, BadInput
from tf_vitcnn.tables.files import replacing


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
    meta = json.dumps({"identity": identity, "progress": asdict(progress)})
    values: dict[str, Any] = {f"v{i:05}": array for i, array in enumerate(arrays)}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, meta=np.array(meta), **values)
    return True


def read_identity(path: Path) -> dict[str, Any]:
    """Which run the state belongs to."""
    return _meta(path)["identity"]


def restore(path: Path, variables: Sequence[Any]) -> Progress:
    """Puts the state's values into the variables; where the run is."""
    try:
        progress = Progress(**_meta(path)["progress"])
        with path.open("rb") as file, np.load(file, allow_pickle=False) as state:
            if len(state.files) != len(variables) + 1:
                raise BadInput(f"{path}: holds {len(state.files) - 1} variables, expected {len(variables)}; remove it")
            for i, variable in enumerate(variables):
                variable.assign(state[f"v{i:05}"].view())  # a member without an array's head comes as bytes
    except BadInput:
        raise
    except UNREADABLE as error:
        raise _broken(path) from error
    return progress


def _meta(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as state:
            meta = json.loads(str(state["meta"]))
        return {"identity": dict(meta["identity"]), "progress": dict(meta["progress"])}
    except UNREADABLE as error:
        raise _broken(path) from error


def _broken(path: Path) -> BadInput:
    return BadInput(f"{path}: not the state of a training run; remove it to start again")
