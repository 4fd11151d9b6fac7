"""Totals on disk: written whole or not at all, so that a run killed at any moment goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from etils import epath

from tf_vitcnn.devices.room import Room
from tf_vitcnn.engine.interrupt import Interrupt
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.read import differences
from tf_vitcnn.tables.schema import Sidecar
from tf_vitcnn.tables.state import reading, save

# 4: units for bfloat16 not kept; 3: the room not kept; 2: totals of Grams by groups of minibatches, not of images
FORMAT = 5
EVERY = float(os.environ.get("TF_VITCNN_CHECKPOINT_SECONDS", "20"))  # a kill costs no more than this and one step

WHAT = "a checkpoint of a run"


@dataclass
class Place:
    """Where a run stands: which stage and step come next, the stage's totals, what earlier stages handed on."""

    stage: int = 0
    step: int = 0
    micro: int = 0  # images in a micro-batch: the same after a restart, so that sums round the same
    replicas: int = 0  # a step is so many micro-batches or minibatches
    totals: dict[str, np.ndarray] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def shared_by(self, replicas: int, path: epath.Path | None) -> None:
        """Counts the steps anew for that many replicas; a number that cannot go on is refused."""
        done = self.step * self.replicas
        if done % replicas:
            raise BadInput(
                f"{path}: {done} batches are done, on {self.replicas} replicas; {replicas} cannot go on from there: "
                f"take {self.replicas} or 1, or remove it to start anew"
            )
        self.step, self.replicas = done // replicas, replicas


class Checkpoint:
    """The saved state of one run, refused when it belongs to another."""

    def __init__(
        self, path: epath.Path | None, identity: Sidecar, room: Room | None = None, writes: bool = True
    ) -> None:
        self.path, self.room, self.writes = path, room, writes
        self.identity = json.loads(json.dumps(identity))
        self.last, self.pause = time.monotonic(), EVERY
        self.interrupt = Interrupt()

    def load(self) -> Place:
        """What was saved, or a fresh start."""
        if self.path is None or not self.path.exists():
            return Place()
        with reading(self.path, WHAT) as (header, arrays):
            _check_format(header)
            stage, step, micro, replicas = (int(header[key]) for key in ("stage", "step", "micro", "replicas"))
            identity, parts = dict(header["identity"]), _by_part(arrays)
        differ = differences(identity, self.identity)
        if differ:
            raise BadInput(f"{self.path}: checkpoint of another run ({'; '.join(differ[:3])}); remove it to start anew")
        return Place(stage, step, micro, replicas, **parts)

    def save(self, state: Place, force: bool = False) -> None:
        """Writes the state when it is time, in one rename; ends the run here if somebody asked for it."""
        due = force or self.interrupt.asked or time.monotonic() - self.last >= self.pause
        if self.path is not None and self.writes and due:
            self._write(self.path, state)
        if self.interrupt.asked:
            where = f"; {self.path} keeps what was done" if self.path is not None else ""
            raise KeyboardInterrupt(f"interrupted after step {state.step}{where}; the same command goes on from there")

    def _write(self, path: epath.Path, state: Place) -> None:
        begun = time.monotonic()
        place = {"stage": state.stage, "step": state.step, "micro": state.micro, "replicas": state.replicas}
        room = asdict(self.room) if self.room else None
        header = {"format": FORMAT, "identity": self.identity, "room": room, **place}
        arrays = {f"totals:{k}": v for k, v in state.totals.items()}
        arrays |= {f"constants:{k}": v for k, v in state.constants.items()}
        save(path, header, arrays)
        self.last = time.monotonic()
        # gigabytes of a probe's features: writing takes at most a twentieth of the run
        self.pause = EVERY and max(EVERY, 20 * (self.last - begun))

    def clear(self) -> None:
        """Removes what was saved: the run is over."""
        if self.path is not None and self.writes:
            self.path.unlink(missing_ok=True)


def room_of(paths: Iterable[epath.Path]) -> Room | None:
    """The room that an unfinished run was begun with; None where no checkpoint is."""
    for path in paths:
        if path.exists():
            with reading(path, WHAT) as (header, _):
                _check_format(header)
                return Room(**{key: int(value) for key, value in header["room"].items()}) if header["room"] else None
    return None


def _check_format(header: Mapping[str, Any]) -> None:
    if header["format"] != FORMAT:
        raise ValueError("totals by other names")


def _by_part(arrays: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Totals and constants; a KeyError for what is neither."""
    parts: dict[str, dict[str, np.ndarray]] = {"totals": {}, "constants": {}}
    for key, value in arrays.items():
        part, _, name = key.partition(":")
        parts[part][name] = value
    return parts


class Lock:
    """One run per output: the second is refused. The lock goes with its process, however that ends."""

    def __init__(self, path: str | os.PathLike | None, refusal: str = "") -> None:
        self.path = Path(path) if path is not None and "://" not in str(path) else None
        self.refusal = refusal

    def __enter__(self) -> Lock:
        """Takes the lock."""
        if self.path is None:
            return self
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # a moment's patience: its owner may end, and remove it, while it is being opened here
            self.lock = filelock.FileLock(self.path, timeout=0.2)
            self.lock.acquire()
            self.taken = self.path.stat()
        except filelock.Timeout:
            said = f"{self.path.parent}: another run is writing this output; wait for it or choose --tag"
            raise BadInput(self.refusal or said) from None
        except OSError as error:
            raise BadInput(f"{self.path.parent}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the lock back."""
        if self.path is None:
            return
        # only ours: the directory may have been removed under the run, and another may have locked it anew. Windows
        # removes no open file: there the lock does it itself
        with contextlib.suppress(OSError):
            if os.path.samestat(self.taken, self.path.stat()):
                self.path.unlink()
        self.lock.release()


def merged(totals: Mapping[str, np.ndarray], sums: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Totals plus one step's sums, in float64, added in place: those of a probe fill a good part of the memory."""
    new = {}
    for key, value in sums.items():
        new[key] = np.add(totals[key], value, out=totals[key]) if key in totals else np.array(value, np.float64)
    return new
