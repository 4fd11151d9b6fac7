"""How tables of similarity are drawn: the same pairs of layers by each measure, side by side."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side
from tf_vitcnn.charts.drawing import Extent, extent

TITLES = {"cka": "CKA", "rsa": "ranks of distances", "knn": "shared neighbours", "procrustes": "Procrustes"}


def draw(table: pd.DataFrame) -> Any:
    """All measures in one chart, and their errors small beneath."""
    rows = [side_by_side(panels) for panels in (maps(table), errors(table)) if panels]
    return alt.vconcat(*rows).resolve_scale(color="independent") if len(rows) > 1 else rows[0]


def maps(table: pd.DataFrame) -> list[Panel]:
    """One heatmap per measure; Procrustes over the layers that have it."""
    return [
        Panel(
            marks.heatmap(
                _of(table, name), name, value_title="similarity", error=f"{name}_se", size=280, **_ends(table)
            ),
            title,
        )
        for name, title in TITLES.items()
        if name in table and table[name].notna().any()
    ]


def errors(table: pd.DataFrame, largest: Extent | None = None) -> list[Panel]:
    """How far other images would move each cell of each measure that has an error."""
    largest = largest or extent([all_errors(table)])
    drawn = [(marks.error_map(table, f"{name}_se", largest, **_ends(table)), title) for name, title in TITLES.items()]
    return [Panel(chart, title) for chart, title in drawn if chart is not None]


def all_errors(table: pd.DataFrame) -> pd.Series:
    """The errors of all measures: their maps have one scale."""
    return pd.concat([table[c] for c in (f"{name}_se" for name in TITLES) if c in table])


def _of(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    return table.dropna(subset=[measure]) if measure == "procrustes" else table


def _ends(table: pd.DataFrame) -> dict[str, Any]:
    return {"x_title": f"layer of {table.model_x.iloc[0]}", "y_title": f"layer of {table.model_y.iloc[0]}"}


DRAWINGS = (
    Drawing(
        (),
        "Similarity of layers by four measures",
        "The same pairs of layers by centred kernel alignment, by the order of distances between images, by shared "
        "nearest neighbours and by Procrustes (outputs of blocks). A pattern that all show is one of the networks.",
        maps,
    ),
    Drawing(
        (),
        "How sure these measures are",
        "Standard error of each cell over images: how far the number would move with other images of the same kind.",
        errors,
        shared=all_errors,
    ),
)
