"""How attention_maps' tables are drawn: maps over the photograph, one panel per image."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.analyses.attention_maps.analysis import NORM, PICTURES
from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side, theme

SIZE = 96  # pixels of a map's longer side
OUTLIER = 3.0  # times the median: what `tokens` calls one


def draw(table: pd.DataFrame) -> Any:
    """All images in one chart: attention, and under it the tokens' norms."""
    rows = [side_by_side(panels) for panels in (attention(table), norms(table)) if panels]
    return alt.vconcat(*rows) if len(rows) > 1 else rows[0]


def attention(table: pd.DataFrame) -> list[Panel]:
    """One panel per image: the photograph, then each layer and head over it, lowest layer first."""
    return _panels(table[table["head"] != NORM], "attention", "share of attention", theme.root_scale())


def norms(table: pd.DataFrame) -> list[Panel]:
    """One panel per image: the photograph, then the norms of each layer's tokens over it."""
    return _panels(
        table[table["head"] == NORM], NORM, "norm, median of the image's tokens = 1", theme.scale_to(OUTLIER)
    )


def _panels(table: pd.DataFrame, value: str, title: str, scale: alt.Scale) -> list[Panel]:
    pictures = table.attrs.get(PICTURES, {})
    ordered = table.sort_values(["image", "depth", "head"], kind="stable")
    return [
        Panel(
            marks.small_maps(
                part,
                value,
                panel=("layer", "head") if value != NORM else ("layer",),
                value_title=title,
                scale=scale,
                picture=pictures.get(f"{i:02d}"),
                size=SIZE,
            ),
            f"image {i}",
        )
        for i, part in ordered.groupby("image", sort=True)
    ]


DRAWINGS = (
    Drawing(
        (),
        "Where it attends in single images",
        "Attention of the class token (of all tokens together where there is none) over the photograph: mean over "
        "heads, or one head, of low, middle and high blocks; rollout follows it through all blocks. Each map on its "
        "own square-root scale.",
        attention,
    ),
    Drawing(
        (),
        "Tokens that stand out in single images",
        "Norm of each token after low, middle and high blocks, over the photograph; the median of the image's tokens "
        "is 1. Outliers, above 3, are light.",
        norms,
    ),
)
