"""What was asked for, apart from the subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tf_vitcnn.analyses.base import Analysis


@dataclass(frozen=True)
class Request:
    """What was asked for, apart from the subjects."""

    analyses: tuple[Analysis, ...]
    data: Any
    images: int | None = None
    batch: int | None = None
    seed: int = 0
    taps: tuple[str, ...] | None = None
    against_taps: tuple[str, ...] | None = None  # of the second subject; else `taps` are both's
    memory: float | None = None
    data_dir: str | None = None
    skip_bad: bool = False
    jit: bool = False
    quiet: bool = False
    compute: str = "float32"  # what products inside the networks run in
