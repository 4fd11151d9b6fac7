"""How much of a layer passes by the skip connection: |z| / |f(z)| and cos(z, f(z)) at every residual addition.

Per token, averaged over images: a mean of ratios (paper, Fig. 7, E.1, E.2). Where a projection replaces the
identity, z is the projection's output. Pairs with |f(z)| = 0, and for the cosine |z| = 0, are left out and counted.
A feature map's positions are averaged (`mean`); tokens stay apart, `mean` is over the spatial ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage, Totals, by_group, require
from tf_vitcnn.analyses.skip_ratio.claims import CLAIMS
from tf_vitcnn.stats.resample import standard_error, without_each
from tf_vitcnn.tables.groups import joined, with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

INF = float("inf")


@dataclass(frozen=True)
class SkipRatio(PerImage):
    """Norm ratio and cosine between the skip and the long branch of every residual addition."""

    name: ClassVar[str] = "skip_ratio"
    figures: ClassVar[tuple[str, ...]] = ("7", "E.1", "E.2")
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "token"),
        values={"ratio": (0, INF), "ratio_se": (0, INF), "cosine": (-1, 1), "cosine_se": (0, 2)},
        integers=("depth",),
        nullable=("ratio", "ratio_se", "cosine", "cosine_se"),
        optional=("ratio_se", "cosine_se"),
    )
    claims: ClassVar = CLAIMS

    def default_taps(self, subject: Subject) -> list[str]:
        """The branch of every residual addition."""
        return [addition.branch for addition in _additions(subject)[0]]

    def _chosen(self, run: Run) -> list[Any]:
        found, _ = _additions(run.subject)
        chosen = [a for a in found if a.branch in run.taps[0]]
        require(
            bool(chosen),
            f"{run.subject.name}: none of the chosen taps is the branch of a residual addition; "
            f"branches: {', '.join(a.branch for a in found[:6]) or 'none'}",
        )
        return chosen

    def needs(self, run: Run) -> Sequence[str]:
        """Both sides of the additions."""
        return list(dict.fromkeys(name for a in self._chosen(run) for name in (a.skip, a.branch)))

    def step(
        self, stage: Stage, taps: Mapping[str, Any], batch: Batch, constants: Constants, run: Run
    ) -> dict[str, Any]:
        """Sums over images of ratio and cosine, and how many pairs had one: [G, token] per addition."""
        sums = {}
        for addition in self._chosen(run):
            ratio, cosine = pairs(taps[addition.skip], taps[addition.branch])
            for kind, (value, valid) in {"ratio": ratio, "cosine": cosine}.items():
                sums[f"{kind}/{addition.branch}"] = by_group(value, batch)
                sums[f"{kind}_count/{addition.branch}"] = by_group(valid, batch)
        return sums

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per addition and token; `mean` over spatial tokens."""
        from tf_vitcnn.opening import layout

        for line in _additions(run.subject)[1]:
            run.note(line)
        rows = []
        for addition in self._chosen(run):
            place = layout(run.subject, addition.branch)
            extra = place.extra if place else ()
            names, masks = _tokens(totals[f"ratio/{addition.branch}"].shape[1], extra, _is_map(run, addition.branch))
            columns: dict[str, Any] = {"token": names}
            changes = {}
            for kind in ("ratio", "cosine"):
                sums = {"value": totals[f"{kind}/{addition.branch}"], "n": totals[f"{kind}_count/{addition.branch}"]}
                columns[kind], change = without_each(sums, _Mean(masks), sums["n"].any(axis=1).astype(bool))
                columns[f"{kind}_se"], changes[kind] = standard_error(change), change
                left_out = int(np.round(run.images * (sums["n"].shape[1]) - sums["n"].sum())) if run.images else 0
                if left_out > 0 and kind == "cosine":
                    run.note(f"{addition.branch}: pairs left out of the cosine, one side being zero: {left_out}")
            part = pd.DataFrame(columns)
            part["model"], part["layer"] = run.subject.name, addition.branch
            part["depth"] = run.subject.depths[addition.branch]
            rows.append(with_groups(part, changes))
        return self.schema.check(joined(rows))


def pairs(z: Any, f: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(ratio, valid) and (cosine, valid) of z, f [b, ..., d], each [b, t]; maps give one token, their mean."""
    import tensorflow as tf

    grid = f.shape.rank == 4  # z may be a map before it is a sequence: a Mixer's embedding
    z, f = (tf.reshape(x, [-1, int(np.prod(x.shape[1:-1])), x.shape[-1]]) for x in (z, f))
    size_z, size_f = tf.norm(z, axis=-1), tf.norm(f, axis=-1)
    has_ratio = tf.cast(size_f > 0, tf.float32)
    has_cosine = has_ratio * tf.cast(size_z > 0, tf.float32)
    ratio = tf.math.divide_no_nan(size_z, size_f)
    # each side by its own norm: their product may leave the range of float32
    cosine = tf.reduce_sum(
        tf.math.divide_no_nan(z, size_z[..., None]) * tf.math.divide_no_nan(f, size_f[..., None]), -1
    )
    out = [ratio, has_ratio, cosine * has_cosine, has_cosine]
    if grid:
        out = [tf.reduce_mean(x, axis=1, keepdims=True) for x in out]
    return (out[0], out[1]), (out[2], out[3])


@lru_cache(maxsize=8)
def _additions(subject: Subject) -> tuple[list[Any], list[str]]:
    from tf_vitcnn.opening import additions

    return additions(subject.model)


def _is_map(run: Run, tap: str) -> bool:
    return len(run.subject.model.output[tap].shape) == 4


def _tokens(count: int, extra: Sequence[str], is_map: bool) -> tuple[list[str], np.ndarray]:
    """Row names and the 0/1 matrix [token, row] of what each row adds up."""
    if is_map:
        return ["mean"], np.ones((1, 1))
    spatial = count - len(extra)
    names = [*extra, *(f"{i:03d}" for i in range(spatial)), "mean"]
    mean = np.r_[np.zeros(len(extra)), np.ones(spatial)]
    return names, np.c_[np.eye(count), mean]


@dataclass(frozen=True)
class _Mean:
    """Sums over counts, for each row of a mask."""

    masks: np.ndarray  # [token, row]

    def __call__(self, sums: Mapping[str, np.ndarray]) -> np.ndarray:
        total, count = sums["value"] @ self.masks, sums["n"] @ self.masks
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, total / count, np.nan)
