"""How far each attention head looks (Fig. 3, 4, C.5, C.6).

The mean over images and over grid queries of the distance to where a head attends, in pixels of the network's input
(stats/attention.py has the equation), and the share of its attention that goes to tokens without a place. Beyond the
paper: the entropy of its attention, and where its mean attention map, centred on the query, peaks (Walmer et al., 2023:
heads that look at a neighbour).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.attention_distance.claims import CLAIMS, PROBS
from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage, Totals, by_group, require
from tf_vitcnn.analyses.layout import pitch, place_of
from tf_vitcnn.stats.attention import peaks
from tf_vitcnn.stats.resample import standard_error, without_each
from tf_vitcnn.tables.groups import joined, with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.opening import Layout
    from tf_vitcnn.subject import Subject
    from tf_vitcnn.verdicts.claim import Claim


@dataclass(frozen=True)
class AttentionDistance(PerImage):
    """Mean attention distance of every head, and its share of attention that leaves the grid."""

    name: ClassVar[str] = "attention_distance"
    figures: ClassVar[tuple[str, ...]] = ("3", "4", "C.5", "C.6")
    images: ClassVar[int | None] = 5000
    widens: ClassVar[bool] = True
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "head"),
        values={
            "distance_px": (0, inf),
            "cls_mass": (0, 1),
            "distance_px_se": (0, inf),
            "cls_mass_se": (0, inf),
            "entropy": (0, 1),
            "entropy_se": (0, inf),
            "offset_rows": (-inf, inf),
            "offset_cols": (-inf, inf),
        },
        integers=("depth", "head"),
        nullable=(
            "distance_px",
            "distance_px_se",
            "cls_mass_se",
            "entropy_se",
        ),  # a head without mass on the grid; one group
        optional=("distance_px_se", "cls_mass_se", "entropy", "entropy_se", "offset_rows", "offset_cols"),
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS

    def default_taps(self, subject: Subject) -> list[str]:
        """The attention probabilities of every layer whose tokens lie on a grid."""
        probs = [tap for tap in subject.taps if tap.endswith(PROBS)]
        require(
            bool(probs),
            f"{subject.name} has no attention probabilities (`.../{PROBS}`): attention_distance needs a transformer; "
            f"its layers: {', '.join(subject.taps[:5])}, ...",
        )
        return [tap for tap in probs if place_of(subject, tap) is not None]

    def needs(self, run: Run) -> Sequence[str]:
        """The chosen taps; what holds no attention or lies on no grid is refused here, before anything is computed."""
        require(bool(run.taps[0]), f"{run.subject.name}: no attention layer's tokens lie on a grid of the image")
        for tap in run.taps[0]:
            attention_grid(run.subject, tap)
        probs = [tap for tap in run.subject.taps if tap.endswith(PROBS)]
        off = [tap for tap in probs if place_of(run.subject, tap) is None]
        if off and list(run.taps[0]) == self.default_taps(run.subject):
            shown = ", ".join([*off[:3], *(["..."] if len(off) > 3 else [])])
            run.note(
                f"{run.subject.name}: {len(off)} of {len(probs)} attention layers are left out, as their keys are not "
                f"a grid of the whole image (windows, fewer keys): {shown}"
            )
        return run.taps[0]

    def step(
        self, stage: Stage, taps: Mapping[str, Any], batch: Batch, constants: Constants, run: Run
    ) -> dict[str, Any]:
        """Per layer and head: distances, queries that count, off-grid shares, [GROUPS, n] each."""
        import tensorflow as tf

        from tf_vitcnn.stats.attention import attention_sums, centred_maps, entropies, grid_distances

        sums = {"images": by_group(tf.ones_like(batch.weight), batch)}
        grids = {tap: attention_grid(run.subject, tap) for tap in run.taps[0]}
        # one matrix for all layers with the same grid
        distances = {
            grid: tf.constant(grid_distances(grid.rows, grid.cols, pitch(run.subject, grid))) for grid in grids.values()
        }
        for tap, grid in grids.items():
            for name, value in attention_sums(taps[tap], len(grid.extra), distances[grid])._asdict().items():
                sums[f"{name}/{tap}"] = by_group(value, batch)
            sums[f"entropy/{tap}"] = by_group(entropies(taps[tap]), batch)
            # the images first: a map of offsets for each of them would cost more than the forward pass
            together = tf.tensordot(batch.weight, tf.cast(taps[tap], tf.float32), axes=1)
            sums[f"maps/{tap}"] = centred_maps(together, len(grid.extra), (grid.rows, grid.cols))
        return sums

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per layer and head."""
        return self.schema.check(joined([_heads(tap, totals, run) for tap in run.taps[0]]))


def attention_grid(subject: Subject, tap: str) -> Layout:
    """The grid of a layer's tokens; one line to the user where there is none."""
    require(tap.endswith(PROBS), f"{tap} holds no attention probabilities: choose taps that end in {PROBS}")
    grid = place_of(subject, tap)
    require(grid is not None, f"{tap} of {subject.name}: its tokens lie on no grid of the image, so have no distance")
    assert grid is not None
    return grid


def _heads(tap: str, totals: Totals, run: Run) -> pd.DataFrame:
    """The rows of one layer, with their groups."""
    grid = attention_grid(run.subject, tap)
    groups = {name: totals[f"{name}/{tap}"] for name in ("distance", "kept", "off_grid")}
    images = np.asarray(totals["images"])[:, None]  # [G, 1]
    queries = images * grid.rows * grid.cols
    of_each = {
        "distance_px": without_each(groups, lambda sums: _divide(sums["distance"], sums["kept"])),
        "cls_mass": without_each(
            {**groups, "queries": queries}, lambda sums: _divide(sums["off_grid"], sums["queries"])
        ),
    }
    entropy = {"entropy": totals[f"entropy/{tap}"], "images": images}
    of_each["entropy"] = without_each(entropy, lambda sums: _divide(sums["entropy"], sums["images"]))
    offset = peaks(totals[f"maps/{tap}"])
    heads = groups["kept"].shape[1]
    left_out = queries.sum() * heads - groups["kept"].sum()
    if left_out > 0.5:
        run.note(f"{tap}: {left_out:.0f} queries have no attention on the grid and are left out of the distance")
    columns = {"model": run.subject.name, "depth": run.subject.depths[tap], "layer": tap, "head": np.arange(heads)}
    for name, (value, changes) in of_each.items():
        columns |= {name: value, f"{name}_se": standard_error(changes)}
    columns |= {"offset_rows": offset[:, 0], "offset_cols": offset[:, 1]}
    return with_groups(pd.DataFrame(columns), {name: changes for name, (_, changes) in of_each.items()})


def _divide(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The ratio, NaN where there is nothing to count."""
    return np.where(counts > 0, sums / np.where(counts > 0, counts, 1), np.nan)
