"""Where the vectors of a tap lie on the image: its grid, and the extra tokens before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tf_vitcnn import taps
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject


class Grid(NamedTuple):
    """Positions of a tap [b, extra + rows * cols, d], of a map [b, rows, cols, d], or of one vector [b, d]."""

    rows: int
    cols: int
    extra: tuple[str, ...]  # tokens without a place, first in line: cls, dist, registers
    channels: int
    rank: int

    @property
    def tokens(self) -> int:
        """Positions that have a place."""
        return self.rows * self.cols

    @property
    def names(self) -> tuple[str, ...]:
        """The extra tokens' names, then `token000` ... in row order."""
        return (*self.extra, *(f"token{i:03d}" for i in range(self.tokens)))


def grid_of(subject: Subject, tap: str) -> Grid:
    """The grid of a tap of that subject."""
    shape = tuple(subject.model.output[tap].shape)[1:]
    if any(size is None for size in shape) or not 1 <= len(shape) <= 3:
        raise BadInput(f"tap {tap!r} of {subject.name} has shape {shape}: expected tokens, a feature map or a vector")
    if len(shape) == 3:
        return Grid(shape[0], shape[1], (), shape[2], 3)
    if len(shape) == 1:
        return Grid(1, 1, (), shape[0], 1)
    rows, cols, extra = _token_grid(subject, tap, shape[0])
    return Grid(rows, cols, extra, shape[1], 2)


def _token_grid(subject: Subject, tap: str, tokens: int) -> tuple[int, int, tuple[str, ...]]:
    patch = subject.provenance.get("patch_size")
    height, width = subject.model.input.shape[1:3]
    rows, cols = (height // patch, width // patch) if patch else (math.isqrt(tokens),) * 2
    extra = tokens - rows * cols
    if not 0 <= extra < max(4, rows):
        raise BadInput(
            f"the {tokens} tokens of tap {tap!r} of {subject.name} have no grid on a {height} x {width} image"
        )
    named = ("cls", "dist")[:extra]
    return rows, cols, (*named, *(f"extra{i}" for i in range(len(named), extra)))


def block_ends(subject: Subject) -> list[str]:
    """The ends of blocks and units: where the residual stream has received all of them."""
    ends = [tap for tap in subject.taps if tap.endswith("/resid/post")]
    if not ends:
        from tf_vitcnn import surgery

        sums = [addition.sum for addition in surgery.additions(subject.model)[0]]
        ends = [tap for tap in sums if tap in subject.depths]
    ends = ends or [tap for tap in taps.default(subject.taps) if len(subject.model.output[tap].shape) > 2]
    if not ends:
        raise BadInput(f"{subject.name} has no block whose output could be read; choose with --taps")
    return ends
