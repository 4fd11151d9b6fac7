"""What a linear probe reads of a tap: readouts [s, b, p] of tokens or of a feature map.

`cls` is the class token, `gap` the mean of all tokens, `gap_spatial` of those with a place, `token000` ... one.
A ResNet's map is brought to the last stage's grid and about its width first (paper, appendix A): space-to-depth by the
largest block b with b * b * c at most the last stage's channels, then average pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_vitcnn.analyses.layout import Grid, find_grid, grid_of
from tf_vitcnn.errors import unknown

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

MEAN = "mean_token"  # not a readout of its own: the average of the tokens' accuracies


@dataclass(frozen=True)
class Reader:
    """How one tap becomes the features of its readouts."""

    tap: str
    names: tuple[str, ...]  # [s] readouts: tokens in their order, then the means
    source: Grid
    grid: Grid  # after patching and pooling
    block: int  # of space-to-depth

    @property
    def tokens(self) -> list[int]:
        """Which readouts are single tokens with a place."""
        return [i for i, name in enumerate(self.names) if name.startswith("token")]

    def __call__(self, values: Any) -> Any:
        """Features [s, b, p] of the tap's values [b, ...]."""
        import tensorflow as tf

        tokens = self._tokens(tf.cast(values, tf.float32))  # [b, t, p]
        means = {"gap": tokens, "gap_spatial": tokens[:, len(self.grid.extra) :]}
        single = [self.grid.names.index(name) for name in self.names if name not in means]
        parts = [tf.transpose(tf.gather(tokens, single, axis=1), [1, 0, 2])] if single else []
        pooled = [tf.reduce_mean(means[name], axis=1)[None] for name in self.names if name in means]
        return tf.concat([*parts, *pooled], axis=0)

    def _tokens(self, values: Any) -> Any:
        import tensorflow as tf

        if self.source.kind != "map":
            return tf.reshape(values, [-1, len(self.source.names), self.source.channels])
        if self.block > 1:
            values = tf.nn.space_to_depth(values, self.block)
        for axis, out in ((1, self.grid.rows), (2, self.grid.cols)):
            if values.shape[axis] != out:
                equation = "gh,bhwc->bgwc" if axis == 1 else "kw,bgwc->bgkc"
                values = tf.einsum(equation, _pooling(values.shape[axis], out), values)
        return tf.reshape(values, [-1, self.grid.tokens, self.grid.channels])


def readers(
    subject: Subject, names: Sequence[str], readouts: Sequence[str], each: bool, patching: bool
) -> list[Reader]:
    """One Reader per tap, with the wanted readouts or those that suit it."""
    final = _last_map(subject)
    made = []
    for tap in names:
        source = grid_of(subject, tap)
        block, grid = _brought(source, final, patching) if source.kind == "map" and final else (1, source)
        made.append(Reader(tap, _readouts(tap, grid, readouts, each), source, grid, block))
    return made


def _readouts(tap: str, grid: Grid, wanted: Sequence[str], each: bool) -> tuple[str, ...]:
    cls = [name for name in ("cls",) if name in grid.extra]
    spatial = [name for name in grid.names if name.startswith("token")]
    choices = [*grid.extra, "gap", *(["gap_spatial"] if grid.extra else []), *spatial]
    chosen = [name for name in wanted or (*cls, "gap") if name != MEAN]
    for name in chosen:
        # without extra tokens both means are one
        if name not in choices and not (name == "gap_spatial" and not grid.extra):
            raise unknown(f"readout of {tap}", name, [*choices, MEAN])
    if each or MEAN in wanted:
        chosen += spatial
    return tuple(name for name in (*grid.names, "gap", "gap_spatial") if name in chosen)


def _last_map(subject: Subject) -> Grid | None:
    """The grid and channels of the last stage: of the deepest feature map that ends a unit."""
    shapes = {tap: subject.model.output[tap].shape for tap in subject.taps}
    maps = [tap for tap, shape in shapes.items() if len(shape) == 4 and not tap.startswith(("head/", "stem/"))]
    ends = [tap for tap in maps if tap.endswith("resid/post")] or maps
    grids = (find_grid(subject, tap) for tap in reversed(ends))
    return next((grid for grid in grids if grid and grid.kind == "map"), None)


def _brought(source: Grid, final: Grid, patching: bool) -> tuple[int, Grid]:
    """Block of space-to-depth, and the grid that pooling then gives."""
    rows, cols = min(source.rows, final.rows), min(source.cols, final.cols)
    block = 1
    if patching:
        fitting = [
            b
            for b in range(1, min(source.rows // rows, source.cols // cols) + 1)
            if b * b * source.channels <= final.channels and source.rows % b == 0 and source.cols % b == 0
        ]
        block = max(fitting, default=1)
    return block, Grid(rows, cols, (), block * block * source.channels, "map")


def _pooling(size: int, out: int) -> np.ndarray:
    """A matrix [out, size] of means over equal (or, where it does not divide, overlapping) spans."""
    pooling = np.zeros((out, size), np.float32)
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        pooling[i, start:stop] = 1 / (stop - start)
    return pooling
