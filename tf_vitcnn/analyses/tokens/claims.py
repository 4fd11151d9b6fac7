"""What tables of tokens say about findings that came after the paper (Darcet et al., 2024)."""

from __future__ import annotations

import numpy as np

from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above

PLACE = "Darcet et al., 2024"
SHARE = 0.01  # a few of the 256 tokens of an image


@claim(
    "outliers-in-late-layers",
    PLACE,
    "In the last third of the blocks more than one in a hundred tokens has a norm above three times the median.",
    Need("tokens", VIT),
)
def outliers_in_late_layers(vit: Result) -> Outcome:
    """Mean share of outliers over the last third of the blocks."""
    return above(_late(vit, "outlier_share"), SHARE)


@claim(
    "outliers-draw-attention",
    PLACE,
    "In the last third of the blocks the outliers draw a larger share of the attention than their share of the tokens.",
    Need("tokens", VIT),
)
def outliers_draw_attention(vit: Result) -> Outcome:
    """Share of attention over share of tokens, where there are outliers."""
    share, drawn = _late(vit, "outlier_share"), _late(vit, "outlier_attention")
    if not share > 0:
        return Untested("no token of the last third of the blocks is an outlier")
    if drawn != drawn:
        return Untested("the network shows no attention probabilities")
    return above(drawn, share)


def _late(vit: Result, statistic: str) -> float:
    """Mean over the last third of the blocks' outputs."""
    rows = vit.once(statistic, lambda: _rows_of(vit, statistic))
    return float(np.mean(vit.table["value"].to_numpy()[rows])) if len(rows) else float("nan")


def _rows_of(vit: Result, statistic: str) -> np.ndarray:
    ends = vit.structure.ends
    late = vit.require(ends[-max(1, len(ends) // 3) :])
    return np.flatnonzero((vit.table.statistic == statistic) & vit.table.layer.isin(late))


CLAIMS = (outliers_in_late_layers, outliers_draw_attention)
