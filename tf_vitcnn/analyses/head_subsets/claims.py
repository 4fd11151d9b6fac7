"""What the paper says of the first block's heads and the lower ResNet layers (Fig. 5)."""

from __future__ import annotations

import numpy as np

from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.structure import structure_of
from tf_vitcnn.verdicts.verdict import below

LEAST = 6  # subsets, for a rank correlation


@claim(
    "local-heads-like-resnet",
    "Fig. 5",
    "For subsets of a quarter of the heads, the Spearman correlation between mean distance and CKA, averaged over the "
    "ResNet layers of the first stage, is below -0.5.",
    Need("head_subsets", VIT, against=RESNET, parameters={"block": (0, None)}),
    jumps=True,
)
def local_heads_like_resnet(result: Result) -> Outcome:
    """Rank correlation over the runs of max(1, H // 4) heads."""
    size, rows = result.once("rows", lambda: _rows_of(result))
    distance, cka = (result.table[column].to_numpy() for column in ("distance_px", "cka"))
    each = []
    for layer in rows:
        layer = layer[~np.isnan(distance[layer]) & ~np.isnan(cka[layer])]
        if len(layer) < LEAST:
            return Untested(f"{len(layer)} subsets of {size} heads: a rank correlation needs at least {LEAST}")
        each.append(float(np.corrcoef(ranks(distance[layer]), ranks(cka[layer]))[0, 1]))
    return below(float(np.mean(each)), -0.5, what="Spearman correlation of distance and CKA")


def _rows_of(result: Result) -> tuple[int, list[np.ndarray]]:
    """How many heads a subset has, and the rows of these subsets against each layer of the first stage."""
    size = max(1, int(result.table["size"].max()) // 4)
    first = [unit.end for unit in structure_of(result.other).units if unit.stage == 1]
    layers = result.require(first, "layer_y")
    of_size = result.table["size"] == size
    return size, [np.flatnonzero(of_size & (result.table.layer_y == layer)) for layer in layers]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[where]


CLAIMS = (local_heads_like_resnet,)
