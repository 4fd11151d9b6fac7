"""Shared marks: heatmap, lines over depth, small maps. Each takes a tidy table and names of its columns.

A matrix travels as one text of whole numbers (thousandths of its largest value) that the page opens with a `flatten`
transform: a tenth of the size of rows, and no limit on rows. Positions that the marks derive are named in DERIVED;
every other field of a chart is a column of its table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.charts import theme

Figure = Any  # Altair's chart classes share no useful base
DERIVED = ("relative_depth", "panel", "rank", "row", "col", "norm")  # positions and labels, never statistics
CELL = "(datum.n - 1)"  # place of a cell in its packed matrix: rows are counted from one
MANY = 60  # more groups of layers than this get no boundaries on an axis
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
    scale: alt.Scale | None = None,
    size: int = 380,
) -> Figure:
    """A matrix with its origin at the lower left, boundaries of blocks and stages on its axes, names on hover.

    `x_layer`, `y_layer` name the layers along an axis; None for an axis of other things (tokens, heads).
    """
    xs, ys = _along(table, x, x_layer), _along(table, y, y_layer)
    cells = table.pivot(index=y, columns=x, values=value).reindex(index=list(ys), columns=list(xs)).to_numpy()
    row: dict[str, Any] = {"xs": list(xs), "ys": list(ys)}
    i, j = f"{CELL} % {len(xs)}", f"floor({CELL} / {len(xs)})"
    fields = {x: f"datum.xs[{i}]", y: f"datum.ys[{j}]"}
    for layer, names, at in ((x_layer, xs, i), (y_layer, ys, j)):
        if layer is not None:
            row[f"{layer}s"], fields[layer] = list(names.values()), f"datum.{layer}s[{at}]"
    scale = scale or alt.Scale(scheme=theme.SIMILARITY, domain=[0, 1], clamp=True)
    return (
        _opened([row], value, [cells], fields)
        .mark_rect(aria=False, **_seamless(size, len(xs), len(ys)))
        .encode(
            x=alt.X(
                f"{x}:O", title=x_title, axis=_axis(xs, x_layer, labelAlign="left"), scale=alt.Scale(domain=list(xs))
            ),
            y=alt.Y(f"{y}:O", title=y_title, axis=_axis(ys, y_layer), scale=alt.Scale(domain=list(ys)[::-1])),
            color=alt.Color(f"{value}:Q", scale=scale, title=value_title or value),
            tooltip=[*(f"{name}:N" for name in fields), alt.Tooltip(f"{value}:Q", format=".3f")],
        )
        .properties(width=_step(size, len(xs)), height=_step(size, len(ys)), title=title, view=_EMPTY)
    )


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
    own_maximum: bool = True,
    size: int = 90,
) -> Figure:
    """One small map per panel, in the table's order of panels, row 0 on top.

    `own_maximum`: each map has its own colour scale (from 0), so only its shape speaks.
    """
    rows, cells = [], []
    for key, group in table.groupby(list(panel), sort=False):
        grid = group.pivot(index=row, columns=col, values=value)
        label = key[0] if len(panel) == 1 else ", ".join(map(str, key))
        rows.append({**_plain(group.iloc[0][list(panel)]), "panel": label, "width": grid.shape[1]})
        cells.append(grid.to_numpy())
    fields = {col: f"{CELL} % datum.width", row: f"floor({CELL} / datum.width)"}
    scale = scale or alt.Scale(scheme=theme.INTENSITY, type="sqrt", domainMin=0)
    legend = None if own_maximum else alt.Legend()
    chart = (
        _opened(rows, value, cells, fields)
        .mark_rect(aria=False, **_seamless(size, cells[0].shape[1], cells[0].shape[0]))
        .encode(
            x=alt.X(f"{col}:O", axis=None),
            y=alt.Y(f"{row}:O", axis=None),
            color=alt.Color(f"{value}:Q", scale=scale, title=value_title or value, legend=legend),
            tooltip=[*(f"{name}:N" for name in (*panel, row, col)), alt.Tooltip(f"{value}:Q", format=".3g")],
        )
        .properties(width=_step(size, cells[0].shape[1]), height=_step(size, cells[0].shape[0]), view=_EMPTY)
        .facet(
            facet=alt.Facet("panel:N", sort=[r["panel"] for r in rows], title=None, header=alt.Header(labelPadding=2)),
            columns=columns,
            spacing=8,
            title=title,
        )
    )
    # each model has its own grid
    return chart.resolve_scale(x="independent", y="independent", color="independent" if own_maximum else "shared")


def depth_lines(
    table: pd.DataFrame,
    value: str,
    *,
    depth: str = "depth",
    layer: str = "layer",
    color: str = "model",
    dash: str | None = None,
    low: str | None = None,
    high: str | None = None,
    relative: bool = False,
    x_title: str = "",
    y_title: str = "",
    y_scale: alt.Scale | None = None,
    title: str = "",
    width: int = 420,
    height: int = 260,
) -> Figure:
    """Lines over depth, one per `color` (and `dash`), with a band from `low` to `high` where the table has them.

    `relative` puts models of different depth on one axis: depth as share of the model's deepest layer.
    """
    used = [c for c in dict.fromkeys([color, dash, layer, depth, value, low, high]) if c and c in table]
    base, x = _over_depth(alt.Chart(table[used]), depth, color if relative else None, x_title)
    y = alt.Y(f"{value}:Q", title=y_title or value, scale=y_scale or alt.Scale(zero=False))
    encoding: dict[str, Any] = {"x": x, "color": _colour(table, color)}
    style = {"strokeDash": alt.StrokeDash(f"{dash}:N")} if dash else {}
    tooltip = [
        *(f"{c}:N" for c in (color, dash, layer, depth) if c),
        *(alt.Tooltip(f"{c}:Q", format=".3g") for c in (value, low, high) if c in used),
    ]
    lines = base.mark_line().encode(y=y, **encoding, **style)
    layers: list[Any] = [lines, base.mark_point().encode(y=y, tooltip=tooltip, **encoding, **style)]
    if low in used and high in used:
        apart = {"detail": f"{dash}:N"} if dash else {}
        shade = base.mark_area(opacity=0.18).encode(y=alt.Y(f"{low}:Q"), y2=f"{high}:Q", **encoding, **apart)
        layers.insert(0, shade)
    return alt.layer(*layers).properties(width=width, height=height, title=title)


def _over_depth(base: Figure, depth: str, within: str | None, title: str) -> tuple[Figure, alt.X]:
    """The horizontal axis: depth, or its share of the deepest layer within each model."""
    if within is None:
        return base, alt.X(f"{depth}:Q", title=title or "depth (position among all layers)")
    base = base.transform_joinaggregate(deepest=f"max({depth})", groupby=[within]).transform_calculate(
        relative_depth=f"datum.deepest > 0 ? datum[{json.dumps(depth)}] / datum.deepest : 0"
    )
    return base, alt.X("relative_depth:Q", title=title or "normalised depth", scale=alt.Scale(domain=[0, 1]))


def _colour(table: pd.DataFrame, column: str) -> alt.Color:
    """Models keep their colours in all figures; other things take the palette's in turn."""
    scale = theme.model_scale(table[column]) if column.startswith("model") else alt.Scale(range=list(theme.PALETTE))
    legend = alt.Legend(symbolOpacity=1, symbolType="stroke", symbolStrokeWidth=3)
    return alt.Color(f"{column}:N", scale=scale, legend=legend, title=column.removesuffix("_x"))


def pack(cells: np.ndarray) -> tuple[str, float]:
    """A matrix, row by row, as whole numbers parted by commas (empty: no value), and what to multiply them with."""
    flat = np.asarray(cells, np.float64).ravel()
    largest = float(np.nanmax(np.abs(flat), initial=0.0)) if np.isfinite(flat).any() else 0.0
    unit = largest / 1000 if largest > 0 else 1.0
    if 0.5 < largest <= 1.5:
        unit = 0.001  # correlations keep their decimals exactly
    return ",".join("" if np.isnan(v) else f"{v / unit:.0f}" for v in flat), float(f"{unit:.6g}")


def _opened(
    rows: Sequence[Mapping[str, Any]], value: str, cells: Sequence[np.ndarray], fields: Mapping[str, str]
) -> Figure:
    """A chart whose rows are the cells of packed matrices, one matrix per row of `rows`."""
    packed = [pack(c) for c in cells]
    data = [{**row, "cells": text, "unit": unit} for row, (text, unit) in zip(rows, packed, strict=True)]
    key = "panel" if rows and "panel" in rows[0] else "unit"
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .transform_calculate(cells="split(datum.cells, ',')")
        .transform_flatten(["cells"])
        .transform_window(n="row_number()", groupby=[key])
        .transform_calculate(**{value: "datum.cells === '' ? null : datum.unit * datum.cells"})
    )
    for name, expression in fields.items():
        chart = chart.transform_calculate(**{name: expression})
    return chart


def _along(table: pd.DataFrame, at: str, layer: str | None) -> dict[Any, str]:
    """Position -> layer's name, in order of position."""
    names = table.drop_duplicates(at).sort_values(at)
    return dict(zip(_list(names[at]), map(str, _list(names[layer or at])), strict=True))


def _axis(names: Mapping[Any, str], layer: str | None, **more: Any) -> alt.Axis:
    """Ticks where a block or unit begins, heavier lines where a stage begins; few plain labels for other axes."""
    groups = [taps.block_of(name) for name in names.values()]
    starts = [i for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]
    places = list(names)
    if layer is None or not 1 < len(starts) <= MANY:
        step = max(1, len(places) // 12)
        named = [i for i, place in enumerate(places) if layer is None and not str(place).isdigit()][:step]  # cls, dist
        shown = [i for i in range(0, len(places), step) if all(abs(i - j) >= step / 2 for j in named)]
        values = [places[i] for i in sorted({*shown, *named})]
        return alt.Axis(values=values, labelAngle=0, labelOverlap="greedy", ticks=True, grid=False)
    label = {str(places[i]): _short(groups[i]) for i in starts if groups[i] != "stem"}  # it hides the first block's
    major = {str(places[i]): True for i in starts if groups[i].endswith("/unit00") or groups[i] in ("final", "head")}
    heavy = f"{json.dumps(major)}[datum.value]"
    return alt.Axis(
        values=[places[i] for i in starts],
        labelExpr=f"{json.dumps(label)}[datum.value]",
        labelAngle=0,
        labelOverlap="greedy",
        **more,
        grid=True,
        gridColor="white",
        gridOpacity=alt.condition(heavy, alt.value(0.9), alt.value(0.35)),
        bandPosition=0,
        zindex=1,
    )


def _order(places: Iterable[Any]) -> alt.Scale:
    return alt.Scale(domain=list(places))


def _step(size: int, cells: int) -> alt.Step:
    """Whole pixels per cell: fractions leave seams between rectangles."""
    return alt.Step(max(1, round(size / max(1, cells))))


# aria=False: a spoken description of each of a quarter million cells took a third of the drawing time
def _seamless(size: int, wide: int, high: int) -> dict[str, Any]:
    """Rectangles half a pixel larger on each side: on screens of fractional scale the background shone through."""
    across, down = (max(1, round(size / max(1, n))) for n in (wide, high))
    return {"width": {"band": round(1 + 1 / across, 3)}, "height": {"band": round(1 + 1 / down, 3)}}


def _short(group: str) -> str:
    """`3` of block03, `s1` of stage1/unit00, `.2` of stage1/unit02."""
    if group.startswith("block"):
        return str(int(group[5:])) if group[5:].isdigit() else group
    if group.startswith("stage") and "/unit" in group:
        stage, unit = group[5:].split("/unit")
        return f"s{stage}" if unit == "00" else f".{int(unit)}"
    return group if len(group) <= 12 else group[:11] + "…"


def _list(column: pd.Series) -> list[Any]:
    return column.tolist()


def _plain(row: pd.Series) -> dict[str, Any]:
    return {str(k): v.item() if hasattr(v, "item") else v for k, v in row.items()}
