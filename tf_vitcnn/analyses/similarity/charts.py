"""How tables of similarity are drawn: the same pairs of layers by each measure, side by side."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import Drawing, marks

TITLES = {"cka": "CKA", "rsa": "ranks of distances", "knn": "shared neighbours", "procrustes": "Procrustes"}


def draw(table: pd.DataFrame) -> Any:
    """One heatmap per measure; Procrustes over the layers that have it."""
    x, y = table.model_x.iloc[0], table.model_y.iloc[0]
    who = x if x == y else f"{x} against {y}"
    panels = []
    for measure, title in TITLES.items():
        if measure not in table or table[measure].isna().all():
            continue
        rows = table.dropna(subset=[measure]) if measure == "procrustes" else table
        panels.append(marks.heatmap(rows, measure, title=f"{title}: {who}", value_title="similarity", size=280))
    return alt.hconcat(*panels)


DRAWINGS = (
    Drawing(
        (),
        "Similarity of layers by four measures",
        "The same pairs of layers by centred kernel alignment, by the order of distances between images, by shared "
        "nearest neighbours and by Procrustes (outputs of blocks). A pattern that all show is one of the networks.",
        draw,
    ),
)
