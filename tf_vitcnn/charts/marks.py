"""Shared marks: heatmap, lines over depth, small maps. Each takes a tidy table and names of its columns.

Positions that the marks derive are named in DERIVED; every other field of a chart is a column of its table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tf_vitcnn.charts import theme, words
from tf_vitcnn.charts.blocks import MANY, blocks, label
from tf_vitcnn.charts.drawing import Extent
from tf_vitcnn.charts.lines import depth_lines, error_bars
from tf_vitcnn.charts.maps import EMPTY, models, seamless, small_maps, step
from tf_vitcnn.charts.packed import CELL, opened, pack

__all__ = ["DERIVED", "centred_on_one", "depth_lines", "error_bars", "error_map", "heatmap", "pack", "small_maps"]

Figure = Any  # Altair's chart classes share no useful base
# positions and labels, never statistics; a band or bar is its value and one standard error to both sides
DERIVED = ("relative_depth", "panel", "rank", "row", "col", "end", "rule", "low", "high", "norm")


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
    row: dict[str, Any] = {"xs": list(xs), "ys": list(ys), **models(table)}
    i, j = f"{CELL} % {len(xs)}", f"floor({CELL} / {len(xs)})"
    fields = {x: f"datum.xs[{i}]", y: f"datum.ys[{j}]"}
    for layer, names, at in ((x_layer, xs, i), (y_layer, ys, j)):
        if layer is not None:
            row[f"{layer}s"], fields[layer] = list(names.values()), f"datum.{layer}s[{at}]"
    scale = scale or alt.Scale(scheme=theme.SIMILARITY, domain=[0, 1], clamp=True)
    spoken = [words.brief(x_layer or x), words.text(" x "), words.brief(y_layer or y)]
    return (
        opened([row], value, [values], fields, error, errors)
        .mark_rect(aria=False, **seamless(size, len(xs), len(ys)))
        .encode(
            x=alt.X(
                f"{x}:O", title=x_title, axis=_axis(xs, x_layer, labelAlign="left"), scale=alt.Scale(domain=list(xs))
            ),
            y=alt.Y(f"{y}:O", title=y_title, axis=_axis(ys, y_layer), scale=alt.Scale(domain=list(ys)[::-1])),
            color=alt.Color(f"{value}:Q", scale=scale, title=value_title or value),
            tooltip=words.tip(*spoken, words.text(": "), words.number(value, error=error)),
        )
        .properties(width=step(size, len(xs)), height=step(size, len(ys)), title=title, view=EMPTY)
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


def _matrix(
    table: pd.DataFrame, x: str, y: str, value: str, xs: Mapping[Any, str], ys: Mapping[Any, str]
) -> np.ndarray:
    return table.pivot(index=y, columns=x, values=value).reindex(index=list(ys), columns=list(xs)).to_numpy()


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


def _list(column: pd.Series) -> list[Any]:
    return column.tolist()
