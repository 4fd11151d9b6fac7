"""What tokens look like inside: how their norms spread over depth, and which stand far above the rest.

Beyond the paper: Darcet et al. (2024) found that large transformers keep a few tokens of very large norm on patches
without much to say; they serve as scratch space and spoil maps of attention. For every layer the norms' quantiles over
images and spatial tokens (class token and registers apart), the share of outliers, where they lie, the attention that
they draw in their block, and the mean cosine of neighbouring tokens (stats/tokens.py). One pass: each image files the
norms of its tokens, so that quantiles are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from tf_vitcnn import taps as names_of
from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage, Totals, by_group, require
from tf_vitcnn.analyses.layout import Grid, find_grid, grid_of
from tf_vitcnn.analyses.tokens.claims import CLAIMS
from tf_vitcnn.stats import tokens
from tf_vitcnn.stats.resample import GROUPS, of_present, standard_error
from tf_vitcnn.tables.groups import with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject
    from tf_vitcnn.verdicts.claim import Claim

SITES = ("/resid/post", "/mlp/out")
PROBS = "attn/probs"
Statistics = dict[str, float]


@dataclass(frozen=True)
class Tokens(PerImage):
    """Norms of tokens over depth, and the outliers among them."""

    name: ClassVar[str] = "tokens"
    images: ClassVar[int | None] = 1000
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "statistic"),
        values={"value": (-1, inf), "value_se": (0, inf)},
        integers=("depth",),
        nullable=("value", "value_se"),  # attention without probabilities; fewer than two groups of images
        optional=("value_se",),
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS

    factor: float = 3.0
    """a token is an outlier if its norm exceeds this multiple of its layer's median"""
    cut: float | None = None
    """a token is an outlier if its norm exceeds this, instead of a multiple of the median"""

    def __post_init__(self) -> None:
        """Refuses what cuts nothing off."""
        require(self.factor > 0, f"--factor {self.factor:g}: expected a number above 0")
        require(self.cut is None or self.cut > 0, f"--cut {self.cut}: expected a norm above 0")

    def default_taps(self, subject: Subject) -> list[str]:
        """What each block adds up to, and what its MLP adds, where tokens lie on a grid."""
        found = [tap for tap in subject.taps if tap.endswith(SITES) and _tokens(subject, tap) is not None]
        require(
            bool(found),
            f"{subject.name} has no tokens on a grid (`.../resid/post` of a transformer): tokens needs a transformer, "
            "or --taps",
        )
        return found

    def needs(self, run: Run) -> Sequence[str]:
        """The chosen taps, and the attention of their blocks."""
        found = dict.fromkeys(run.taps[0])
        for tap in run.taps[0]:
            grid_of(run.subject, tap)
            if probs := attention_of(run.subject, tap):
                found[probs] = None
        return list(found)

    def held(self, run: Run) -> float:
        """The norms of all images, and of their attention."""
        return 8.0 * run.images * sum(_width(grid_of(run.subject, tap)) for tap in run.taps[0])

    def step(
        self, stage: Stage, taps: Mapping[str, Any], batch: Batch, constants: Constants, run: Run
    ) -> dict[str, Any]:
        """Each image's norms and received attention as rows; cosines of neighbours summed by group."""
        import tensorflow as tf

        sums: dict[str, Any] = {}
        for tap in run.taps[0]:
            grid = grid_of(run.subject, tap)
            x = tf.reshape(tf.cast(taps[tap], tf.float32), [-1, _width(grid), grid.channels])  # [b, t, d]
            norm = tf.norm(x, axis=-1)
            sums[f"rows/norm/{tap}"] = norm
            for name, value in cosines(x, norm, grid).items():
                sums[f"{name}/{tap}"] = by_group(value, batch)
            if probs := attention_of(run.subject, tap):
                # mean over heads and queries: each key's share of its image's attention
                sums[f"rows/received/{tap}"] = tf.reduce_mean(tf.cast(taps[probs], tf.float32), axis=[1, 2])
        return sums

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per layer and statistic."""
        rows: list[dict[str, Any]] = []
        changes: list[np.ndarray] = []
        last = next(reversed([t for t in run.taps[0] if t.endswith(SITES[0])]), run.taps[0][-1])
        for tap in run.taps[0]:
            value, without = self._layer(totals, run, tap, tap == last)
            change = np.array([[g.get(name, np.nan) - value[name] for name in value] for g in without])  # [G, s]
            change = of_present(change, np.array([bool(g) for g in without]))
            changes.append(change)
            for name, error in zip(value, standard_error(change), strict=True):
                about = {"model": run.subject.name, "depth": run.subject.depths[tap], "layer": tap}
                rows.append({**about, "statistic": name, "value": value[name], "value_se": error})
        table = with_groups(pd.DataFrame(rows), {"value": np.concatenate(changes, axis=1)})
        return self.schema.check(table)

    def _layer(self, totals: Totals, run: Run, tap: str, last: bool) -> tuple[Statistics, list[Statistics]]:
        """The statistics of one layer, and those without each group of images in turn."""
        grid = grid_of(run.subject, tap)
        norms, received = np.asarray(totals[f"rows/norm/{tap}"]), totals.get(f"rows/received/{tap}")
        group = np.arange(len(norms)) % GROUPS
        spatial = norms[:, len(grid.extra) :]
        ordered = tokens.Sorted(spatial, group)
        apart = {name: tokens.Sorted(norms[:, [i]], group) for i, name in enumerate(grid.extra)}
        bins = tokens.edges(ordered.values) if last else np.array([])

        def at(g: int | None) -> Statistics:
            kept = slice(None) if g is None else group != g
            inside = ordered.without(g)
            found = _quantiles("", inside)
            for name, own in apart.items():
                found |= _quantiles(f"{name}_", own.without(g))
            cut = self.cut or self.factor * found["q50"]
            far = tokens.outliers(spatial[kept], None if received is None else received[kept], cut)
            found |= {"outlier_cut": cut, "outlier_share": far.share, "outlier_attention": far.attention}
            found["neighbour_cosine"] = _ratio(totals[f"cosine/{tap}"], totals[f"pairs/{tap}"], g)
            found |= {
                f"outlier_at_r{i // grid.cols:02d}_c{i % grid.cols:02d}": share for i, share in enumerate(far.places)
            }
            shares = tokens.histogram(inside, bins) if len(bins) else ()
            return found | {f"histogram_{edge:.4g}": share for edge, share in zip(bins, shares, strict=False)}

        present = np.unique(group)
        return at(None), [at(g) if g in present and len(present) > 1 else {} for g in range(GROUPS)]


def attention_of(subject: Subject, tap: str) -> str | None:
    """The attention probabilities of a tap's block, where its keys are the same tokens."""
    found = f"{names_of.block_of(tap)}/{PROBS}"
    if found not in subject.taps or subject.model.output[found].shape[-1] != _width(grid_of(subject, tap)):
        return None
    return found


def cosines(x: Any, norm: Any, grid: Grid) -> dict[str, Any]:
    """Per image, the cosines of neighbouring tokens [b, t, d] summed, and how many pairs have one: [b] each."""
    import tensorflow as tf

    unit = tf.math.divide_no_nan(x, norm[..., tf.newaxis])[:, len(grid.extra) :]
    there = tf.cast(norm > 0, tf.float32)[:, len(grid.extra) :]
    unit = tf.reshape(unit, [-1, grid.rows, grid.cols, grid.channels])
    there = tf.reshape(there, [-1, grid.rows, grid.cols])
    cosine, pairs = tf.zeros_like(norm[:, 0]), tf.zeros_like(norm[:, 0])
    for (i, j), (k, m) in tokens.neighbours((grid.rows, grid.cols)):
        cosine += tf.reduce_sum(unit[:, i, j] * unit[:, k, m], axis=[1, 2, 3])
        pairs += tf.reduce_sum(there[:, i, j] * there[:, k, m], axis=[1, 2])
    return {"cosine": cosine, "pairs": pairs}


def _tokens(subject: Subject, tap: str) -> Grid | None:
    """The grid of a tap that holds tokens; a convolutional map's positions are no tokens."""
    grid = find_grid(subject, tap)
    return grid if grid is not None and grid.kind == "tokens" else None


def _width(grid: Grid) -> int:
    return len(grid.extra) + grid.tokens


def _quantiles(prefix: str, ordered: np.ndarray) -> Statistics:
    return {f"{prefix}q{p:02d}": q for p, q in zip(tokens.PERCENTS, tokens.quantiles(ordered), strict=True)}


def _ratio(sums: np.ndarray, counts: np.ndarray, without: int | None) -> float:
    kept = np.arange(len(sums)) != without
    count = counts[kept].sum()
    return float(sums[kept].sum() / count) if count else np.nan
