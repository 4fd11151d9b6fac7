"""Arrays that wait in a file: name, shape and type now, values one at a time when they are assigned.

So a load holds the model and one array more, never a second copy of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tf_vitcnn.errors import BadInput


@dataclass(frozen=True, eq=False)
class Array:
    """One stored array; `read` gives its values as the file has them, `values` as float32."""

    name: str  # as the file calls it
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def numeric(self) -> bool:
        """Whether it can be a weight: floating point, or bfloat16 as its raw two bytes (void, or uint16)."""
        return self.dtype.kind == "f" or self.dtype.name == "bfloat16" or _raw_bfloat16(self.dtype)

    def values(self) -> np.ndarray:
        """float32, of the declared shape; NaN and infinity are refused."""
        if not self.numeric:
            raise BadInput(f"{self.name}: holds {self.dtype}; expected floating-point weights")
        stored = self.read()
        if _raw_bfloat16(stored.dtype):
            # bfloat16 is the upper half of a float32
            stored = (stored.view("<u2").astype(np.uint32) << 16).view(np.float32)
        values = np.ascontiguousarray(stored, dtype=np.float32).reshape(self.shape)
        # the extremes carry any NaN or infinity, without an array of truth values beside the weights
        if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise BadInput(f"{self.name}: holds NaN or infinity; expected finite weights, so take another copy")
        return values

    def reshaped(self, shape: Sequence[int]) -> Array:
        """The same values in another shape."""
        shape = tuple(shape)
        return replace(self, shape=shape, read=lambda: self.read().reshape(shape))

    def turned(self, shape: Sequence[int], turn: Callable[[np.ndarray], np.ndarray]) -> Array:
        """The values after a change of axes (or a cut) that gives the shape."""
        return replace(self, shape=tuple(shape), read=lambda: turn(self.read()))

    def squeezed(self) -> Array:
        """Without axes of length one."""
        return self.reshaped([n for n in self.shape if n != 1])


def _raw_bfloat16(dtype: np.dtype) -> bool:
    return dtype.itemsize == 2 and dtype.kind in "Vu" and dtype.name != "bfloat16"


class Stack:
    """Arrays with a leading axis of layers (flax's scan), layer by layer; each is read from the file once."""

    def __init__(self) -> None:
        self._held: tuple[str, np.ndarray] | None = None

    def layers(self, stacked: Array) -> list[Array]:
        """One array per layer of a stacked one."""
        return [
            Array(f"{stacked.name}[{i:02d}]", stacked.shape[1:], stacked.dtype, lambda i=i: self._read(stacked)[i])  # type: ignore[misc]
            for i in range(stacked.shape[0])
        ]

    def _read(self, stacked: Array) -> np.ndarray:
        if self._held is None or self._held[0] != stacked.name:
            self._held = None  # first let go of the one before
            self._held = (stacked.name, stacked.read())
        return self._held[1]


def parameters(arrays: Mapping[str, Array]) -> int:
    """How many numbers the arrays hold in all."""
    return sum(array.size for array in arrays.values())
