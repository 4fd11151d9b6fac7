"""What skip_ratio's tables say about the paper's claims (Fig. 7)."""

from __future__ import annotations

import numpy as np

from tf_vitcnn.errors import MissingLayer
from tf_vitcnn.verdicts.claim import Outcome, claim
from tf_vitcnn.verdicts.evidence import CLS_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above


def mean_ratios(result: Result, token: str = "mean") -> np.ndarray:
    """A token's mean ratio at every residual addition, in depth order."""
    rows = result.once(("rows", token), lambda: _rows_of(result, token))
    return result.table["ratio"].to_numpy()[rows]


def _rows_of(result: Result, token: str) -> np.ndarray:
    branches = result.require([unit.branch for unit in result.structure.units])
    of_token = result.table[result.table.token == token]
    rows = dict(zip(of_token.layer, of_token.index, strict=True))
    missing = [branch for branch in branches if branch not in rows]
    if missing:
        raise MissingLayer(f"{result.path} has no row of {token} at {missing[0]}")
    return np.array([rows[branch] for branch in branches])


@claim(
    "skip-stronger-in-vit",
    "Fig. 7",
    "The mean ratio over layers is larger in the ViT (spatial tokens) than in the ResNet.",
    Need("skip_ratio", VIT),
    Need("skip_ratio", RESNET),
)
def skip_stronger_in_vit(vit: Result, resnet: Result) -> Outcome:
    """Mean over layers of the spatial mean, against the ResNet's."""
    return above(np.nanmean(mean_ratios(vit)), np.nanmean(mean_ratios(resnet)))


@claim(
    "phase-transition",
    "Fig. 7",
    "The class token's mean ratio falls from the first to the second half of the blocks, the spatial tokens' rises.",
    Need("skip_ratio", CLS_VIT),
)
def phase_transition(vit: Result) -> Outcome:
    """Second half over first half: below 1 for the class token, above 1 for the spatial mean."""
    halves = [np.array_split(mean_ratios(vit, token), [vit.structure.middle]) for token in ("cls", "mean")]
    (cls_low, cls_high), (low, high) = ([float(np.nanmean(half)) for half in both] for both in halves)
    return [above(cls_low, cls_high, what="class token, first half"), above(high, low, what="spatial, second half")]


CLAIMS = (skip_stronger_in_vit, phase_transition)
