"""Small maps of grids, one per layer, token or head, each on its own scale; over a photograph where one is given."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tf_vitcnn.charts import theme, words
from tf_vitcnn.charts.packed import CELL, opened

EMPTY = alt.ViewBackground(fill=theme.NO_VALUE)  # shows through where a cell has no value
OVER = 0.62  # opacity of a map over a photograph


def small_maps(
    table: pd.DataFrame,
    value: str,
    *,
    row: str = "row",
    col: str = "col",
    panel: Sequence[str] = ("layer",),
    columns: int = 6,
    title: str = "",
    value_title: str = "",
    scale: alt.Scale | None = None,
    picture: bytes | None = None,
    size: int = 90,
) -> Any:
    """One small map per panel, in the table's order of panels, row 0 on top.

    Each map has its own colour scale (from 0) unless `scale` has a domain, so only its shape speaks; its largest value
    is printed above it, for a legend that facets share cannot be drawn. Standard errors are told on hover where the
    table has them, as `VALUE_se`. With `picture`, a PNG, the maps lie over it, and it stands alone before them.
    """
    rows, cells = _packed(table, value, row, col, panel)
    error = f"{value}_se" if f"{value}_se" in table and table[f"{value}_se"].notna().any() else None
    errors = _packed(table, error, row, col, panel)[1] if error else []
    height, width = cells[0].shape
    if picture:
        rows.insert(0, {**rows[0], "layer": None, "panel": "photograph\n ", "said": "photograph"})
        cells.insert(0, np.zeros((height, width)))
        errors = [np.zeros((height, width)), *errors] if errors else []
    fields = {col: f"{CELL} % datum.width", row: f"floor({CELL} / datum.width)"}
    base = opened(rows, value, cells, fields, error, errors)
    color = alt.Color(
        f"{value}:Q",
        scale=scale or theme.root_scale(),
        title=value_title or value,
        legend=None,
    )
    encoding = {"x": alt.X(f"{col}:O", axis=None), "y": alt.Y(f"{row}:O", axis=None), "color": color}
    encoding["tooltip"] = _tip(value, error, row, col)
    panels = alt.Facet("panel:N", sort=[r["panel"] for r in rows], title=None, header=_HEADER)
    if picture:
        chart = _over(picture, base, encoding, (width, height), size)
    else:
        rect = base.mark_rect(aria=False, **seamless(size, width, height)).encode(**encoding)
        chart = rect.properties(width=step(size, width), height=step(size, height), view=EMPTY)
    chart = chart.facet(facet=panels, columns=columns, title=title)
    if picture:
        chart = chart.properties(data=base.data, transform=base.transform)
    # each model has its own grid
    return chart.properties(spacing=8).resolve_scale(x="independent", y="independent", color="independent")


_HEADER = alt.Header(labelPadding=2, labelExpr=f"split({words.BRIEF_LABEL}, '\\n')", labelLineHeight=11)


def _packed(
    table: pd.DataFrame, value: str, row: str, col: str, panel: Sequence[str]
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """What each map is of, and its values."""
    rows, cells = [], []
    for key, group in table.groupby(list(panel), sort=False):
        grid = group.pivot(index=row, columns=col, values=value)
        first, rest = str(key[0]), ", ".join(map(str, key[1:]))
        label = f"{first}\n{rest}" if rest else first
        if grid.notna().any().any():
            label += f"{': ' if rest else chr(10)}0 to {np.nanmax(grid.to_numpy()):.2g}"
        described = {**models(group), **_plain(group.iloc[0][list(panel)])}
        rows.append({**described, "panel": label, "said": f"{first} {rest}", "width": grid.shape[1]})
        cells.append(grid.to_numpy())
    return rows, cells


def _tip(value: str, error: str | None, row: str, col: str) -> Any:
    place = f"' row ' + datum[{json.dumps(row)}] + ', column ' + datum[{json.dumps(col)}] + ': '"
    return words.tip(words.brief("said"), place, words.number(value, ".3g", error))


def _over(picture: bytes, base: Any, encoding: Mapping[str, Any], cells: tuple[int, int], size: int) -> Any:
    """Cells that let the photograph beneath them shine through; none over the photograph that stands alone."""
    wide, high = (round(side * size / max(cells)) for side in cells)
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    mark = alt.MarkDef(type="image", url=url, width=wide, height=high, align="left", baseline="top", aria=False)
    beneath = alt.Chart(mark=mark).transform_filter("datum.n === 1").encode(x=alt.value(0), y=alt.value(0))
    bare = alt.condition("datum.layer === null", alt.value(0), alt.value(OVER))
    heat = alt.Chart().mark_rect(aria=False).encode(opacity=bare, **encoding)
    return alt.layer(beneath, heat, data=base.data).properties(width=wide, height=high)


def models(table: pd.DataFrame) -> dict[str, Any]:
    """Whose layers these are: the page marks them in every panel that has them."""
    return {c: table[c].iloc[0] for c in ("model", "model_x", "model_y") if c in table}


def step(size: int, cells: int) -> alt.Step:
    """Whole pixels per cell: fractions leave seams between rectangles."""
    return alt.Step(max(1, round(size / max(1, cells))))


# aria=False: a spoken description of each of a quarter million cells took a third of the drawing time
def seamless(size: int, wide: int, high: int) -> dict[str, Any]:
    """Rectangles half a pixel larger on each side: on screens of fractional scale the background shone through."""
    across, down = (max(1, round(size / max(1, n))) for n in (wide, high))
    return {"width": {"band": round(1 + 1 / across, 3)}, "height": {"band": round(1 + 1 / down, 3)}}


def _plain(row: pd.Series) -> dict[str, Any]:
    return {str(k): v.item() if hasattr(v, "item") else v for k, v in row.items()}
