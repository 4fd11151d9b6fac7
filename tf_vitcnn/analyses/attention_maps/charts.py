"""How attention_maps' tables are drawn: maps over the photograph, one panel per image."""

from __future__ import annotations

import base64
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, side_by_side, theme, words
from tf_vitcnn.charts.packed import CELL, opened

SIZE = 96  # pixels of a map's longer side
PICTURES = "pictures"  # in a table's attrs: `00` -> PNG


def draw(table: pd.DataFrame) -> Any:
    """All images in one chart."""
    return side_by_side(images(table))


def images(table: pd.DataFrame) -> list[Panel]:
    """One panel per image: the photograph, then each layer and head over it, lowest layer first."""
    pictures = table.attrs.get(PICTURES, {})
    return [Panel(_maps(part, pictures.get(f"{i:02d}")), f"image {i}") for i, part in table.groupby("image", sort=True)]


def _maps(table: pd.DataFrame, picture: bytes | None) -> Any:
    rows, cells = _packed(table)
    height, width = cells[0].shape
    high, wide = (round(side * SIZE / max(height, width)) for side in (height, width))
    layers = [_heat(0.62 if picture else 1.0)]
    if picture:  # alone, and beneath each map
        rows.insert(0, {**rows[0], "layer": None, "head": None, "panel": "photograph\n "})
        cells.insert(0, np.zeros((height, width)))
        layers.insert(0, _photograph(picture, wide, high))
    fields = {"col": f"{CELL} % datum.width", "row": f"floor({CELL} / datum.width)"}
    base = opened(rows, "attention", cells, fields)
    return (
        alt.layer(*layers, data=base.data)
        .properties(width=wide, height=high)
        .facet(facet=alt.Facet("panel:N", sort=[r["panel"] for r in rows], title=None, header=_HEADER), columns=6)
        .properties(data=base.data, transform=base.transform, spacing=8)
        .resolve_scale(color="independent")
    )


def _packed(table: pd.DataFrame) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """What each map is of, and its values."""
    rows, cells = [], []
    for (_, layer, head), group in table.groupby(["depth", "layer", "head"], sort=True):
        grid = group.pivot(index="row", columns="col", values="attention").to_numpy()
        label = "rollout" if head == "rollout" else f"{str(layer).split('/attn')[0]} {head}"
        about = {"model": group.model.iloc[0], "layer": layer, "head": head, "width": grid.shape[1]}
        rows.append({**about, "panel": f"{label}\n0 to {grid.max():.2g}"})
        cells.append(grid)
    return rows, cells


def _heat(opacity: float) -> Any:
    """The cells of a map, each map on its own scale."""
    place = "' row ' + datum.row + ', column ' + datum.col + ': '"
    scale = alt.Scale(scheme=theme.INTENSITY, type="sqrt", domainMin=0)
    return (
        alt.Chart()
        .mark_rect(aria=False)
        .encode(
            x=alt.X("col:O", axis=None),
            y=alt.Y("row:O", axis=None),
            color=alt.Color("attention:Q", legend=None, title="share of attention", scale=scale),
            opacity=alt.condition("datum.head === null", alt.value(0), alt.value(opacity)),  # the photograph alone
            tooltip=words.tip("split(datum.panel, '\\n')[0]", place, words.number("attention", ".3g")),
        )
    )


_HEADER = alt.Header(labelPadding=2, labelExpr="split(datum.value, '\\n')", labelLineHeight=11)


def _photograph(picture: bytes, wide: int, high: int) -> Any:
    """Drawn once beneath the cells of each map."""
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    mark = alt.MarkDef(type="image", url=url, width=wide, height=high, align="left", baseline="top", aria=False)
    return alt.Chart(mark=mark).transform_filter("datum.n === 1").encode(x=alt.value(0), y=alt.value(0))


DRAWINGS = (
    Drawing(
        (),
        "Where it attends in single images",
        "Attention of the class token (of all tokens together where there is none) over the photograph: mean over "
        "heads, or one head, of low, middle and high blocks; rollout follows it through all blocks. Each map on its "
        "own square-root scale.",
        images,
    ),
)
