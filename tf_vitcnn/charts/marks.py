"""Shared marks: heatmap, lines over depth, small maps. Each takes a tidy table and names of its columns.

Positions that the marks derive are named in DERIVED; every other field of a chart is a column of its table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tf_vitcnn.charts import theme, words
from tf_vitcnn.charts.blocks import MANY, blocks, label
from tf_vitcnn.charts.drawing import Extent
from tf_vitcnn.charts.lines import depth_lines, error_bars
from tf_vitcnn.charts.packed import CELL, opened, pack

__all__ = ["DERIVED", "centred_on_one", "depth_lines", "error_bars", "error_map", "heatmap", "pack", "small_maps"]

Figure = Any  # Altair's chart classes share no useful base
# positions and labels, never statistics; a band or bar is its value and one standard error to both sides
DERIVED = ("relative_depth", "panel", "rank", "row", "col", "end", "rule", "low", "high", "norm")
_EMPTY = alt.ViewBackground(fill=theme.NO_VALUE)  # shows through where a cell has no value


def heatmap(
    table: pd.DataFrame,
    value: str,
    *,
    x: str = "depth_x",
    y: str = "depth_y",
    x_layer: str | None = "layer_x",
    y_layer: str | None = "layer_y",
    x_title: str = "layer",
    y_title: str = "layer",
    title: str = "",
    value_title: str = "",
    error: str | None = None,
    scale: alt.Scale | None = None,
    size: int = 380,
) -> Figure:
    """A matrix with its origin at the lower left, boundaries of blocks and stages on its axes, names on hover.

    `x_layer`, `y_layer` name the layers along an axis; None for an axis of other things (tokens, heads). `error` is
    the column of the standard error.
    """
    xs, ys = _along(table, x, x_layer), _along(table, y, y_layer)
    error = error if error and error in table and table[error].notna().any() else None
    values = _matrix(table, x, y, value, xs, ys)
    errors = [_matrix(table, x, y, error, xs, ys)] if error else []
    row: dict[str, Any] = {"xs": list(xs), "ys": list(ys), **_models(table)}
    i, j = f"{CELL} % {len(xs)}", f"floor({CELL} / {len(xs)})"
    fields = {x: f"datum.xs[{i}]", y: f"datum.ys[{j}]"}
    for layer, names, at in ((x_layer, xs, i), (y_layer, ys, j)):
        if layer is not None:
            row[f"{layer}s"], fields[layer] = list(names.values()), f"datum.{layer}s[{at}]"
    scale = scale or alt.Scale(scheme=theme.SIMILARITY, domain=[0, 1], clamp=True)
    spoken = [words.brief(x_layer or x), words.text(" x "), words.brief(y_layer or y)]
    return (
        opened([row], value, [values], fields, error, errors)
        .mark_rect(aria=False, **_seamless(size, len(xs), len(ys)))
        .encode(
            x=alt.X(
                f"{x}:O", title=x_title, axis=_axis(xs, x_layer, labelAlign="left"), scale=alt.Scale(domain=list(xs))
            ),
            y=alt.Y(f"{y}:O", title=y_title, axis=_axis(ys, y_layer), scale=alt.Scale(domain=list(ys)[::-1])),
            color=alt.Color(f"{value}:Q", scale=scale, title=value_title or value),
            tooltip=words.tip(*spoken, words.text(": "), words.number(value, error=error)),
        )
        .properties(width=_step(size, len(xs)), height=_step(size, len(ys)), title=title, view=_EMPTY)
    )


def error_map(table: pd.DataFrame, error: str, largest: Extent | None = None, **of_heatmap: Any) -> Figure | None:
    """The matrix of a heatmap's standard errors, smaller; None for a table without them."""
    if error not in table or not table[error].notna().any():
        return None
    scale = alt.Scale(scheme=theme.INTENSITY, domain=[0, largest[1]] if largest else alt.Undefined, domainMin=0)
    more = {"size": 150, "value_title": "standard error", "scale": scale}
    return heatmap(table, error, **{**of_heatmap, **more})


def centred_on_one(extent: Extent) -> alt.Scale:
    """Colours of ratios: one is neutral, and twice as much is as far from it as half."""
    reach = max(1.05, *(max(v, 1 / v) for v in extent if v > 0))
    return alt.Scale(scheme=theme.DIVERGING, type="log", domain=[round(1 / reach, 4), round(reach, 4)], clamp=True)


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
    size: int = 90,
) -> Figure:
    """One small map per panel, in the table's order of panels, row 0 on top.

    Each map has its own colour scale (from 0) unless `scale` has a domain, so only its shape speaks; its largest value
    is printed above it, for a legend that facets share cannot be drawn.
    """
    rows, cells = [], []
    for key, group in table.groupby(list(panel), sort=False):
        grid = group.pivot(index=row, columns=col, values=value)
        first, rest = str(key[0]), ", ".join(map(str, key[1:]))
        label = f"{first}\n{rest}" if rest else first
        if grid.notna().any().any():
            label += f"{': ' if rest else chr(10)}0 to {np.nanmax(grid.to_numpy()):.2g}"
        described = {**_models(group), **_plain(group.iloc[0][list(panel)])}
        rows.append({**described, "panel": label, "said": f"{first} {rest}", "width": grid.shape[1]})
        cells.append(grid.to_numpy())
    fields = {col: f"{CELL} % datum.width", row: f"floor({CELL} / datum.width)"}
    scale = scale or alt.Scale(scheme=theme.INTENSITY, type="sqrt", domainMin=0)
    height, width = cells[0].shape
    place = f"' row ' + datum[{json.dumps(row)}] + ', column ' + datum[{json.dumps(col)}] + ': '"
    chart = (
        opened(rows, value, cells, fields)
        .mark_rect(aria=False, **_seamless(size, width, height))
        .encode(
            x=alt.X(f"{col}:O", axis=None),
            y=alt.Y(f"{row}:O", axis=None),
            color=alt.Color(f"{value}:Q", scale=scale, title=value_title or value, legend=None),
            tooltip=words.tip(words.brief("said"), place, words.number(value, ".3g")),
        )
        .properties(width=_step(size, width), height=_step(size, height), view=_EMPTY)
    )
    panels = alt.Facet("panel:N", sort=[r["panel"] for r in rows], title=None, header=_HEADER)
    chart = chart.facet(facet=panels, columns=columns, spacing=8, title=title)
    # each model has its own grid
    return chart.resolve_scale(x="independent", y="independent", color="independent")


_HEADER = alt.Header(labelPadding=2, labelExpr=f"split({words.BRIEF_LABEL}, '\\n')", labelLineHeight=11)


def _matrix(
    table: pd.DataFrame, x: str, y: str, value: str, xs: Mapping[Any, str], ys: Mapping[Any, str]
) -> np.ndarray:
    return table.pivot(index=y, columns=x, values=value).reindex(index=list(ys), columns=list(xs)).to_numpy()


def _models(table: pd.DataFrame) -> dict[str, Any]:
    """Whose layers these are: the page marks them in every panel that has them."""
    return {c: table[c].iloc[0] for c in ("model", "model_x", "model_y") if c in table}


def _along(table: pd.DataFrame, at: str, layer: str | None) -> dict[Any, str]:
    """Position -> layer's name, in order of position."""
    names = table.drop_duplicates(at).sort_values(at)
    return dict(zip(_list(names[at]), map(str, _list(names[layer or at])), strict=True))


def _axis(names: Mapping[Any, str], layer: str | None, **more: Any) -> alt.Axis:
    """Ticks where a block or unit begins, heavier lines where a stage begins; few plain labels for other axes."""
    groups = blocks(list(names.values()))
    starts = [i for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]
    places = list(names)
    if layer is None or not 1 < len(starts) <= MANY:
        step = max(1, len(places) // 12)
        named = [i for i, place in enumerate(places) if layer is None and not str(place).isdigit()][:step]  # cls, dist
        shown = [i for i in range(0, len(places), step) if all(abs(i - j) >= step / 2 for j in named)]
        values = [places[i] for i in sorted({*shown, *named})]
        return alt.Axis(values=values, labelAngle=0, labelOverlap="greedy", ticks=True, grid=False)
    labels = {str(places[i]): label(groups[i]) for i in starts if groups[i] != "stem"}  # it hides the first block's
    major = {str(places[i]): True for i in starts if groups[i].endswith("/unit00") or groups[i] in ("final", "head")}
    heavy = f"{json.dumps(major)}[datum.value]"
    return alt.Axis(
        values=[places[i] for i in starts],
        labelExpr=f"{json.dumps(labels)}[datum.value]",
        labelAngle=0,
        labelOverlap="greedy",
        **more,
        grid=True,
        gridColor="white",
        gridOpacity=alt.condition(heavy, alt.value(0.9), alt.value(0.35)),
        bandPosition=0,
        zindex=1,
    )


def _step(size: int, cells: int) -> alt.Step:
    """Whole pixels per cell: fractions leave seams between rectangles."""
    return alt.Step(max(1, round(size / max(1, cells))))


# aria=False: a spoken description of each of a quarter million cells took a third of the drawing time
def _seamless(size: int, wide: int, high: int) -> dict[str, Any]:
    """Rectangles half a pixel larger on each side: on screens of fractional scale the background shone through."""
    across, down = (max(1, round(size / max(1, n))) for n in (wide, high))
    return {"width": {"band": round(1 + 1 / across, 3)}, "height": {"band": round(1 + 1 / down, 3)}}


def _list(column: pd.Series) -> list[Any]:
    return column.tolist()


def _plain(row: pd.Series) -> dict[str, Any]:
    return {str(k): v.item() if hasattr(v, "item") else v for k, v in row.items()}
