"""How a training runs, which changes no result but rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Machine:
    """How to run, which changes no result but rounding."""

    strategy: str | tf.distribute.Strategy = "cpu"
    data_dir: str | None = None
    memory: float = 4e9  # bytes of decoded images that are kept
    save_seconds: float = 60.0
    tensorboard: bool = False
    jit: bool | None = None
