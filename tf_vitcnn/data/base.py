"""What a source of images is: numbered images, each with a label or without."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np


class Source(ABC):
    """Images by number. `load` is made of tensors, so tf.data runs it in parallel and in any order."""

    spec: str
    size: int
    class_names: tuple[str, ...] = ()  # empty without labels
    fingerprint: str  # the same for the same data elsewhere, another when they change

    @property
    def classes(self) -> int:
        """How many classes; 0 without labels."""
        return len(self.class_names)

    @abstractmethod
    def load(self, index: Any) -> tuple[Any, Any]:
        """Image number `index` (a scalar tensor) as uint8 [h, w, 3], and its label as int32, -1 where there is none."""

    def labels(self) -> np.ndarray | None:
        """All labels, int32 [size]; None where there are none."""
        return None

    def describe(self, index: int) -> str:
        """What a user may call that image."""
        return f"{self.spec}, image {index}"


def digest(parts: Iterable[Any]) -> str:
    """A short hash of the parts' representations (bytes as they are)."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else repr(part).encode())
        total.update(b"\0")
    return total.hexdigest()[:16]
