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
from tf_vitcnn.charts import Drawing, marks
from tf_vitcnn.stats.resample import standard_error
from tf_vitcnn.tables.groups import joined, with_groups
from tf_vitcnn.tables.schema import Schema
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import CLS_VIT, GAP_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above, below

if TYPE_CHECKING:
    import altair

    from tf_vitcnn.subject import Subject


def own_to_best(result: Result) -> float:
    """Mean distance from a token's own patch to its best matching patch in the last layer, in widths of the image."""
    last = _last(result)
    best = last.loc[last.groupby(["token_row", "token_col"]).cka.idxmax()]
    # cells are square: both distances count in columns
    distance = np.hypot(best.token_row - best.patch_row, best.token_col - best.patch_col)
    return float(distance.mean()) / (last.patch_col.max() + 1)


def _trivial(*results: Result) -> Untested | None:
    """No verdict on a last grid of one position: its best patch is its own, whatever the network does."""
    alone = [r.subject["name"] for r in results if not _last(r)[["patch_row", "patch_col"]].any(axis=None)]
    return Untested(f"the last grid of {' and '.join(alone)} has a single position") if alone else None


def _last(result: Result) -> pd.DataFrame:
    table = result.table[(result.table.token_row >= 0) & result.table.cka.notna()]
    return table[table.depth == table.depth.max()]


@claim(
    "tokens-localized",
    "Fig. 9",
    "In the last block, the mean distance from a token's own patch to its best matching patch, as share of the image "
    "width, is smaller in the ViT than in the ResNet.",
    Need("localization", CLS_VIT),
    Need("localization", RESNET),
)
def tokens_localized(vit: Result, resnet: Result) -> Outcome:
    """Distance of the best match."""
    return _trivial(vit, resnet) or below(own_to_best(vit), own_to_best(resnet))


@claim(
    "edge-tokens-see-edges",
    "Fig. 9",
    "For edge tokens, mean CKA with other edge patches exceeds mean CKA with interior patches.",
    Need("localization", VIT),
)
def edge_tokens_see_edges(vit: Result) -> Outcome:
    """Mean CKA of the last block's edge tokens with edge patches (their own left out) and with the others."""
    last = _last(vit)
    tokens = last[_on_edge(last.token_row, last.token_col, last)]
    edge = _on_edge(tokens.patch_row, tokens.patch_col, last)
    if edge.all():
        return Untested("the grid has no interior patches")
    own = (tokens.token_row == tokens.patch_row) & (tokens.token_col == tokens.patch_col)
    return above(tokens[edge & ~own].cka.mean(), tokens[~edge].cka.mean())


def _on_edge(row: pd.Series, col: pd.Series, table: pd.DataFrame) -> pd.Series:
    return row.isin([0, table.patch_row.max()]) | col.isin([0, table.patch_col.max()])


@claim(
    "gap-less-localized",
    "Fig. 10",
    "The distance from a token's own patch to its best match is larger in the pooled ViT than in the class-token ViT.",
    Need("localization", GAP_VIT),
    Need("localization", CLS_VIT),
)
def gap_less_localized(gap: Result, cls: Result) -> Outcome:
    """Distance of the best match."""
    return _trivial(gap, cls) or above(own_to_best(gap), own_to_best(cls))


def maps(table: pd.DataFrame) -> Any:
    """CKA with every patch for a corner, two edge and three interior tokens of each layer."""
    shown = []
    for _, layer in table[table.token_row >= 0].groupby("depth", sort=True):
        rows, cols = layer.token_row.max() + 1, layer.token_col.max() + 1
        chosen = [(0, 0), (0, cols // 2), (rows // 2, 0), (rows // 4, cols // 4), (rows // 2, cols // 2)]
        chosen.append((rows - 1 - rows // 4, cols - 1 - cols // 4))
        by_place = layer.set_index(["token_row", "token_col"], drop=False).sort_index()
        shown += [by_place.loc[[place]] for place in dict.fromkeys(chosen)]
    return marks.small_maps(
        pd.concat(shown, ignore_index=True),
        "cka",
        row="patch_row",
        col="patch_col",
        panel=("layer", "token_row", "token_col"),
        value_title="CKA",
        title="CKA of tokens (row, column) with input patches",
    )


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
    claims: ClassVar = (tokens_localized, edge_tokens_see_edges, gap_less_localized)
    drawings: ClassVar = (
        Drawing(
            figures,
            "CKA of single tokens with input patches",
            "One map per token (layer, row, column), each with its own colour scale: CKA with the input's patches.",
            draw=maps,
        ),
    )
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
        x, y = (totals[f"norm_{side}"][0] <= hsic.CONSTANT**2 * totals[f"norm_{side}"][1] for side in "xy")
        if x.any() or y.any():
            run.note(f"localization: {x.sum()} tokens and {y.sum()} patches are constant and have no CKA")
        xx, yy = np.where(x, np.nan, xx), np.where(y, np.nan, yy)
        of_groups = tuple(totals[f"groups/{name}"] for name in names)
        changes = shares.changes((xy, xx, yy), of_groups, totals["groups/images"])
        return self.schema.check(self._rows(hsic.cka(xy, xx, yy), changes, run))

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

    @classmethod
    def chart(cls, table: pd.DataFrame) -> altair.Chart:
        """Maps of corner, edge and interior tokens."""
        return maps(table)


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
