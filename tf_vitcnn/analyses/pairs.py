"""Pairs of layers: every chosen tap of one or two subjects, flattened, and the table's rows of each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.base import Run, Totals, View, require
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

KEYS = ("model_x", "depth_x", "layer_x", "model_y", "depth_y", "layer_y")


def flat_views(run: Run, tokens: str = "all") -> list[list[View]]:
    """One view of each chosen tap that has such tokens, for each subject."""
    sides = [
        [View(side, tap, (tap,), split) for tap in run.taps[side] if (split := _flatten(tokens, subject, tap))]
        for side, subject in enumerate(run.subjects)
    ]
    for side, subject in zip(sides, run.subjects, strict=True):
        require(bool(side), f"{subject.name}: none of the chosen taps has the positions that --tokens asks for")
    return sides


class Side:
    """One axis of the matrix."""

    def __init__(self, run: Run, index: int, views: Sequence[View], norms: np.ndarray, letter: str, own: str) -> None:
        from tf_vitcnn.stats import hsic

        subject = run.subjects[index]
        self.model, self.depths, self.own = subject.name, subject.depths, own
        self.taps = [view.tap for view in views]
        # squared norms, centred and not
        self.constant = hsic.constant(norms)
        self.dead = np.where(self.constant, np.nan, 0.0)  # added to HSIC it leaves these without CKA
        self.constant_taps = [tap for tap, dead in zip(self.taps, self.constant, strict=True) if dead]


def sides_of(run: Run, rows: Sequence[View], columns: Sequence[View], totals: Totals) -> tuple[Side, Side]:
    """Both axes (the same twice within one subject); layers that are constant over the images are noted."""
    x = Side(run, 0, rows, totals["norm_x"], "x", "xx")
    y = Side(run, 1, columns, totals["norm_y"], "y", "yy") if columns else x
    for side in {id(x): x, id(y): y}.values():
        for tap in side.constant_taps:
            run.note(f"{side.model}: {tap} is constant over these images and has no CKA")
    return x, y


def changes_of(totals: Totals, key: str, x: Side, y: Side, run: Run, prefix: str = "") -> np.ndarray:
    """What CKA (or another measure) over all draws changes by without each group of images, [GROUPS, lx, ly]."""
    from tf_vitcnn.stats import shares

    names = [prefix + name for name in (key, x.own, y.own)]
    return shares.of_totals(totals, names, (x.dead, y.dead), images_in(run))


def images_in(run: Run) -> int:
    """How many images the run's draws are taken from."""
    return run.sources["data"].size if "data" in run.sources else run.images


def rows_of(x: Side, y: Side, columns: Mapping[str, np.ndarray], matching: bool = False) -> pd.DataFrame:
    """A row per pair, of values [lx, ly], or [l] for matching pairs."""
    at = np.diag_indices(len(x.taps)) if matching else np.indices((len(x.taps), len(y.taps))).reshape(2, -1)
    ends: dict[str, Any] = {}
    for side, letter, index in ((x, "x", at[0]), (y, "y", at[1])):
        ends[f"model_{letter}"] = side.model
        ends[f"depth_{letter}"] = np.array([side.depths[tap] for tap in side.taps])[index]
        ends[f"layer_{letter}"] = np.array(side.taps, dtype=object)[index]
    return pd.DataFrame(ends | {name: np.ravel(matrix) for name, matrix in columns.items()})


def _flatten(tokens: str, subject: Subject, tap: str) -> Any:
    """Tensor [b, ...] -> [1, b, p] of the wanted positions; None where the tap has none of them."""
    import tensorflow as tf

    first: int | None = 0
    last: int | None = None
    if tokens != "all":
        from tf_vitcnn.opening import layout

        place = layout(subject, tap)
        if place is None or (tokens == "cls" and "cls" not in place.extra):
            return None
        at = place.extra.index("cls") if tokens == "cls" else len(place.extra)
        first, last = (at, at + 1) if tokens == "cls" else (at, None)
    if any(size is None for size in subject.model.output[tap].shape[1:]):
        raise BadInput(f"{subject.name}: {tap} has no fixed size; give --image-size")

    def split(x: Any) -> Any:
        x = x[:, first:last] if tokens != "all" else x
        return tf.reshape(x, [1, -1, int(np.prod(x.shape[1:]))])

    return split
