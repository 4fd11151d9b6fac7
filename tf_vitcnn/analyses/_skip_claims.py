"""What skip_ratio's tables say about the paper's claims (Fig. 7), and how they are drawn (Fig. 7, E.1, E.2)."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import marks, theme
from tf_vitcnn.claims import CLS_VIT, RESNET, VIT, Need, Result, above, claim


@claim(
    "skip-stronger-in-vit",
    "Fig. 7",
    "The mean ratio over layers is larger in the ViT (spatial tokens) than in the ResNet.",
    Need("skip_ratio", VIT),
    Need("skip_ratio", RESNET),
)
def skip_stronger_in_vit(vit: Result, resnet: Result) -> Any:
    """Mean over layers of the spatial mean, against the ResNet's."""
    ours, theirs = (result.table.query("token == 'mean'").ratio for result in (vit, resnet))
    return above(ours.mean(), theirs.mean())


@claim(
    "phase-transition",
    "Fig. 7",
    "The class token's mean ratio falls from the first to the second half of the blocks, the spatial tokens' rises.",
    Need("skip_ratio", CLS_VIT),
)
def phase_transition(vit: Result) -> Any:
    """Second half over first half: below 1 for the class token, above 1 for the spatial mean."""
    change = {}
    for token in ("cls", "mean"):
        rows = vit.table[vit.table.token == token].sort_values("depth")
        half = len(rows) // 2
        change[token] = rows.ratio[:half].mean(), rows.ratio[half:].mean()
    (cls_low, cls_high), (low, high) = change["cls"], change["mean"]
    return [above(cls_low, cls_high, what="class token, first half"), above(high, low, what="spatial, second half")]


CLAIMS = (skip_stronger_in_vit, phase_transition)


def draw(table: pd.DataFrame) -> Any:
    """Ratio by layer and token as a heatmap, beside lines over depth; a ResNet has the lines alone."""
    summary = table[table.token.isin(["cls", "dist", "mean"])]
    lines = alt.hconcat(
        _lines(summary, "ratio", "|z| / |f(z)|", alt.Scale(type="log")),
        _lines(summary, "cosine", "cosine of z and f(z)", alt.Scale(zero=False)),
    )
    tokens = table[table.token != "mean"]
    if tokens.empty:
        return lines
    maps = [
        marks.heatmap(
            part,
            "ratio",
            x="depth",
            y="token",
            x_layer="layer",
            y_layer=None,
            y_title="token",
            title=f"{model}: skip over branch",
            value_title="|z| / |f(z)|",
            scale=alt.Scale(scheme=theme.INTENSITY, type="log"),
        )
        for model, part in tokens.groupby("model", sort=False)
    ]
    return alt.vconcat(alt.hconcat(*maps).resolve_scale(color="independent"), lines)


def _lines(table: pd.DataFrame, value: str, title: str, scale: alt.Scale) -> Any:
    return marks.depth_lines(table, value, dash="token", relative=True, y_title=title, y_scale=scale)
