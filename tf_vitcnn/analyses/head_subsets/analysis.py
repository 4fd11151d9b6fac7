"""Which heads of the first encoder block see like the lower layers of a ResNet (Fig. 5).

Heads are sorted by their mean attention distance; every contiguous run of heads is a representation (its heads'
`attn/mixed` side by side) with a CKA to each lower layer of the ResNet.

Features side by side have the sum of the Gram matrices, and HSIC is bilinear in them: for a run S of heads
HSIC(S, y) = sum_{h in S} HSIC(h, y) and HSIC(S, S) = sum_{h, h' in S} HSIC(h, h'). So one H x H and one H x L matrix
hold all H (H + 1) / 2 runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.analyses.attention_distance.analysis import attention_grid
from tf_vitcnn.analyses.base import Constants, Extra, PerMinibatch, Run, Totals, View, require
from tf_vitcnn.analyses.head_subsets.claims import CLAIMS
from tf_vitcnn.analyses.layout import pitch, post_residual
from tf_vitcnn.stats.resample import standard_error, without_each
from tf_vitcnn.tables.groups import with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

MIXED = "attn/mixed"
LOWER_STAGES = (1, 2)  # of a ResNet


@dataclass(frozen=True)
class HeadSubsets(PerMinibatch):
    """CKA of runs of first-block heads, from local to global, with each lower ResNet layer."""

    name: ClassVar[str] = "head_subsets"
    figures: ClassVar[tuple[str, ...]] = ("5",)
    against: ClassVar[Literal["no", "may", "must"]] = "must"
    images: ClassVar[int | None] = 10240
    batch: ClassVar[int | None] = 1024
    schema: ClassVar[Schema] = Schema(
        keys=("model", "layer", "heads", "size", "against", "depth_y", "layer_y"),
        values={"distance_px": (0, inf), "cka": (-inf, inf), "distance_px_se": (0, inf), "cka_se": (0, inf)},
        integers=("size", "depth_y"),
        nullable=("distance_px", "cka", "distance_px_se", "cka_se"),
        optional=("distance_px_se", "cka_se"),
        sort=("model", "layer", "against", "depth_y", "layer_y", "size", "heads"),
    )
    claims: ClassVar = CLAIMS
    block: int = 0
    """which encoder block's heads, from 0"""

    def default_taps(self, subject: Subject) -> list[str]:
        """Of the transformer the first block's heads; of the other the layers that they are compared with."""
        mixed = [tap for tap in subject.taps if tap.endswith(MIXED)]
        return named_layers(subject) or mixed[self.block : self.block + 1] or foreign_layers(subject)

    def views(self, run: Run) -> tuple[Sequence[View], Sequence[View]]:
        """One row per head; one column per layer of the other subject."""
        tap = mixed_of(run.subject, self.block)
        require(bool(run.taps[1]), f"--taps chooses no layer of {run.subjects[1].name} to compare the heads with")
        heads = int(run.subject.model.output[tap].shape[2])
        rows = View(0, tap, tuple(f"{head:02d}" for head in range(heads)), _heads)
        return [rows], [View(1, layer, (layer,), _flat) for layer in run.taps[1]]

    def products(self, run: Run) -> frozenset[str]:
        """Heads with heads, and heads with layers."""
        return frozenset({"xx", "xy"})

    def extra(self, run: Run) -> Mapping[str, Extra]:
        """Distances of the heads, and the queries that count, from the same pass: [2, n] per image."""
        import tensorflow as tf

        from tf_vitcnn.stats.attention import attention_sums, grid_distances

        tap = mixed_of(run.subject, self.block).replace(MIXED, "attn/probs")
        grid = attention_grid(run.subject, tap)
        distances = grid_distances(grid.rows, grid.cols, pitch(run.subject, grid))

        def values(probs: Any) -> Any:
            sums = attention_sums(probs, len(grid.extra), distances)
            return tf.stack([sums.distance, sums.kept], axis=1)

        return {"distance": Extra(0, tap, values)}

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per run of heads and layer."""
        from tf_vitcnn.stats import hsic

        constant = hsic.constant(totals["norm_y"])
        for layer in np.array(run.taps[1])[constant]:
            run.note(f"{run.subjects[1].name}: {layer} is constant over these images and has no CKA")
        distance = {"distance": totals["groups/distance"]}  # [G, 2, n]
        present = totals["groups/images"] > 0
        order = np.argsort(_distances({"distance": distance["distance"].sum(axis=0)}), kind="stable")
        spans = subsets(len(order))
        px, px_change = without_each(distance, lambda sums: _mean_distances(sums, order, spans), present)
        cka, cka_change = _cka(totals, order, spans, np.where(constant, np.nan, 0.0))
        span, layer = np.indices(cka.shape).reshape(2, -1)
        px_change, cka_change = px_change[:, span], cka_change.reshape(len(cka_change), -1)
        layers = np.array(run.taps[1], dtype=object)[layer]
        table = pd.DataFrame(
            {
                "model": run.subjects[0].name,
                "layer": mixed_of(run.subject, self.block),
                "heads": np.array(["-".join(f"{head:02d}" for head in order[a:b]) for a, b in spans])[span],
                "size": np.array([b - a for a, b in spans])[span],
                "against": run.subjects[1].name,
                "depth_y": [run.subjects[1].depths[tap] for tap in layers],
                "layer_y": layers,
                "distance_px": px[span],
                "distance_px_se": standard_error(px_change),
                "cka": cka.ravel(),
                "cka_se": standard_error(cka_change),
            }
        )
        return self.schema.check(with_groups(table, {"distance_px": px_change, "cka": cka_change}))


def mixed_of(subject: Subject, block: int) -> str:
    """The mixed values of an encoder block [b, t, n, e]."""
    found = [tap for tap in subject.taps if tap.endswith(MIXED)]
    require(
        bool(found),
        f"{subject.name} has no attention heads (`.../{MIXED}`): "
        "head_subsets needs --model to be a transformer and --against the network to compare its heads with",
    )
    require(0 <= block < len(found), f"--block {block}: {subject.name} has attention in blocks 0 to {len(found) - 1}")
    shape = tuple(subject.model.output[found[block]].shape)
    require(len(shape) == 4, f"{subject.name}: heads of {found[block]} attend within windows: no subsets of them")
    return found[block]


def named_layers(subject: Subject) -> list[str]:
    """A ResNet's pooled stem and the units of its first two stages, after their additions.

    The paper says "lower ResNet layers" and no more.
    """
    units = [t for t in subject.taps if taps.stage_of(t) in LOWER_STAGES and t.endswith("resid/post")]
    return [tap for tap in subject.taps if units and (tap == "stem/pool" or tap in units)]


def foreign_layers(subject: Subject) -> list[str]:
    """The lower half of a foreign network's residual additions."""
    found = post_residual(subject)
    return found[: max(1, len(found) // 2)]


def subsets(heads: int) -> list[tuple[int, int]]:
    """All contiguous runs [start, stop) of the sorted heads, by size."""
    return [(start, start + size) for size in range(1, heads + 1) for start in range(heads - size + 1)]


def _heads(mixed: Any) -> Any:
    """[b, t, n, e] -> [n, b, t * e]."""
    import tensorflow as tf

    batch, tokens, heads, channels = mixed.shape
    return tf.reshape(tf.transpose(mixed, [2, 0, 1, 3]), [heads, batch, tokens * channels])


def _flat(tap: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(tap, [1, tap.shape[0], -1])


def _distances(sums: Totals) -> np.ndarray:
    """Mean distance of each head [n], NaN without a query that counts; NaN sorts last."""
    distance, kept = sums["distance"]
    return np.where(kept > 0, distance / np.where(kept > 0, kept, 1), np.nan)


def _mean_distances(sums: Totals, order: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    distances = _distances(sums)[order]
    return np.array([distances[start:stop].mean() for start, stop in spans])


def _cka(
    totals: Totals, order: np.ndarray, spans: Sequence[tuple[int, int]], dead: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """CKA of each run with each layer [runs, l], of sums over minibatches, and its changes [GROUPS, runs, l]."""
    from tf_vitcnn.stats import shares

    def of_runs(prefix: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The runs' own sums and those with layers, [g, runs, l] and [g, runs], and the layers' own [g, l]."""
        xx = totals[f"{prefix}xx_full"][:, order][:, :, order]
        xy = totals[f"{prefix}xy"][:, order]
        own = np.stack([xx[:, a:b, a:b].sum(axis=(1, 2)) for a, b in spans], axis=1)
        return np.stack([xy[:, a:b].sum(axis=1) for a, b in spans], axis=1), own, totals[f"{prefix}yy"]

    both, own, layers = (sums.sum(axis=0) / totals["count"].sum() for sums in of_runs(""))
    layers = layers + dead
    changes = shares.changes((both, own, layers), of_runs("groups/"), totals["groups/images"])
    # an unbiased HSIC of a representation with itself may fall to zero or below: then there is no CKA
    valid = (own[:, None] > 0) & (layers > 0)
    return np.where(valid, both / np.sqrt(np.where(valid, own[:, None] * layers, 1)), np.nan), changes
