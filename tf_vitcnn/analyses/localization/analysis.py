"""CKA of every token with every input patch (paper, Fig. 9, 10, D.1 to D.3).

A token is one position's vector over images, a patch the pixels of one cell of the token's grid over the same images;
for feature maps a token is a location. Extra tokens (cls first) are kept with token_row = token_col = -1, -2, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.base import Constants, PerMinibatch, Run, Totals, View, require
from tf_vitcnn.analyses.layout import Grid, block_ends, grid_of
from tf_vitcnn.analyses.localization.claims import CLAIMS
from tf_vitcnn.stats.resample import standard_error
from tf_vitcnn.tables.groups import joined, with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject


@dataclass(frozen=True)
class Localization(PerMinibatch):
    """Where a token's information comes from: CKA of tokens with input patches."""

    name: ClassVar[str] = "localization"
    figures: ClassVar[tuple[str, ...]] = ("9", "10", "D.1", "D.2", "D.3")
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "token_row", "token_col", "patch_row", "patch_col"),
        values={"cka": (-1, 1), "cka_se": (0, float("inf"))},
        integers=("depth", "token_row", "token_col", "patch_row", "patch_col"),
        nullable=("cka", "cka_se"),
        optional=("cka_se",),
    )
    claims: ClassVar = CLAIMS
    images: ClassVar[int | None] = 10240
    batch: ClassVar[int | None] = 1024

    def default_taps(self, subject: Subject) -> list[str]:
        """The output of the last block and of the last but one, of those that have positions."""
        return [tap for tap in block_ends(subject) if len(subject.model.output[tap].shape) > 2][-2:]

    def views(self, run: Run) -> tuple[Sequence[View], Sequence[View]]:
        """Tokens of every tap against the patches of every grid that occurs."""
        grids = self._grids(run)
        rows = [View(0, tap, grid.names, partial(_split, positions=len(grid.names))) for tap, grid in grids.items()]
        patch = run.subject.provenance.get("patch_size")
        sizes = dict.fromkeys((grid.rows, grid.cols) for grid in grids.values())
        return rows, [View(0, "images", _patch_names(r, c), _cutter(r, c, patch)) for r, c in sizes]

    def _grids(self, run: Run) -> dict[str, Grid]:
        require(bool(run.taps[0]), "localization: no tap chosen")
        grids = {tap: grid_of(run.subject, tap) for tap in run.taps[0]}
        for tap, grid in grids.items():
            require(grid.kind != "vector", f"{tap} of {run.subject.name} has no positions: choose tokens or maps")
        return grids

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """CKA of the tokens of each layer with the patches of its grid, and its error over images."""
        from tf_vitcnn.stats import hsic, shares

        names = ("xy", "xx", "yy")
        xy, xx, yy = (totals[name].sum(axis=0) / totals["count"].sum() for name in names)
        x, y = (hsic.constant(totals[f"norm_{side}"]) for side in "xy")
        if x.any() or y.any():
            run.note(f"localization: {x.sum()} tokens and {y.sum()} patches are constant and have no CKA")
        dead = [np.where(side, np.nan, 0.0) for side in (x, y)]
        changes = shares.of_totals(totals, names, dead, run.images)
        return self.schema.check(self._rows(hsic.cka(xy, xx + dead[0], yy + dead[1]), changes, run))

    def _rows(self, cka: np.ndarray, changes: np.ndarray, run: Run) -> pd.DataFrame:
        grids = self._grids(run)
        columns: dict[tuple[int, int], int] = {}
        for grid in grids.values():
            columns.setdefault((grid.rows, grid.cols), sum(r * c for r, c in columns))
        parts, start = [], 0
        for tap, grid in grids.items():
            tokens, patches = len(grid.names), grid.tokens
            first = columns[grid.rows, grid.cols]
            cells = np.s_[..., start : start + tokens, first : first + patches]
            token, patch = np.divmod(np.arange(tokens * patches), patches)
            place, change = token - len(grid.extra), changes[cells].reshape(len(changes), -1)
            table = pd.DataFrame(
                {
                    "model": run.subject.name,
                    "depth": run.subject.depths[tap],
                    "layer": tap,
                    # extra tokens have no place: -1 for the first, -2 for the next
                    "token_row": np.where(place < 0, -1 - token, place // grid.cols),
                    "token_col": np.where(place < 0, -1 - token, place % grid.cols),
                    "patch_row": patch // grid.cols,
                    "patch_col": patch % grid.cols,
                    "cka": cka[cells].ravel(),
                    "cka_se": standard_error(change),
                }
            )
            parts.append(with_groups(table, {"cka": change}))
            start += tokens
        return joined(parts)


def _split(values: Any, positions: int) -> Any:
    """Tokens [b, t, ...] or maps [b, h, w, c] as [r, b, p]."""
    import tensorflow as tf

    values = tf.reshape(values, [-1, positions, math.prod(values.shape[1:]) // positions])
    return tf.transpose(values, [1, 0, 2])


def _patch_names(rows: int, cols: int) -> tuple[str, ...]:
    return tuple(f"{rows}x{cols}/patch{i:03d}" for i in range(rows * cols))


def _cutter(rows: int, cols: int, patch: int | None) -> Callable[[Any], Any]:
    """A function that cuts images [b, H, W, 3] into patches [rows * cols, b, pixels * 3]."""

    def cut(images: Any) -> Any:
        import tensorflow as tf

        channels = images.shape[-1]
        height, width = (_cell(size, n, patch) for size, n in zip(images.shape[1:3], (rows, cols), strict=True))
        # zeros beyond the border are the same in all images and change no Gram matrix
        pad = [max(0, rows * height - images.shape[1]), max(0, cols * width - images.shape[2])]
        images = tf.pad(images, [[0, 0], [0, pad[0]], [0, pad[1]], [0, 0]])[:, : rows * height, : cols * width]
        cells = tf.reshape(images, [-1, rows, height, cols, width, channels])
        cells = tf.transpose(cells, [1, 3, 0, 2, 4, 5])  # [rows, cols, b, height, width, channels]
        return tf.reshape(cells, [rows * cols, -1, height * width * channels])

    return cut


def _cell(size: int, cells: int, patch: int | None) -> int:
    """Pixels of a cell: the patch where the network drops what does not fill one, else what covers the image."""
    if patch and size // patch == cells:
        return patch
    return -(-size // cells)
