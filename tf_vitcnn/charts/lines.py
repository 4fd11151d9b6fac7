"""Lines over depth: one per model, labelled at its end, in its colour in every figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import theme, words
from tf_vitcnn.charts.drawing import Extent

LABEL = 11  # pixels between the labels of two lines


def depth_lines(
    table: pd.DataFrame,
    value: str,
    *,
    depth: str = "depth",
    layer: str = "layer",
    color: str = "model",
    low: str | None = None,
    high: str | None = None,
    error: str | None = None,
    relative: bool = False,
    x_title: str = "",
    y_title: str = "",
    domain: Extent | None = None,
    log: bool = False,
    rule: float | None = None,
    title: str = "",
    width: int = 320,
    height: int = 240,
) -> Any:
    """Lines over depth, one per model, with a band from `low` to `high` (or of one standard error, `error`).

    `relative` puts models of different depth on one axis: depth as share of the model's deepest layer. `domain` is the
    range of the vertical axis, `rule` a level to compare with. The chart's parameter `hidden` lists models not drawn.
    """
    used = [c for c in dict.fromkeys([color, layer, depth, value, low, high, error]) if c and c in table]
    hidden = alt.param(name="hidden", value=[])
    base, x = _over_depth(alt.Chart(table[used]), depth, color if relative else None, x_title)
    base = base.transform_filter(f"indexof(hidden, datum[{json.dumps(color)}]) < 0")
    if error in used and low not in used:
        low, high = "low", "high"
        base = _spread(base, value, str(error))
        used += [low, high]
    y = alt.Y(f"{value}:Q", title=y_title or value, scale=_scale(domain, log))
    shown, dash = _told_apart(color, list(table[color]))
    encoding: dict[str, Any] = {"x": x, "color": shown}
    tip = words.line_tip(color, layer, value, *(c if c in used else None for c in (low, high)))
    layers: list[Any] = [
        base.mark_line(clip=True).encode(y=y, strokeDash=dash, **encoding),
        base.mark_point(clip=True).encode(y=y, tooltip=tip, **encoding),
    ]
    if low in used and high in used:
        band = base.mark_area(opacity=0.18, clip=True)
        layers.insert(0, band.encode(y=alt.Y(f"{low}:Q"), y2=f"{high}:Q", **encoding))
    if rule is not None:
        layers.insert(0, _level(rule))
    layers.append(_end_labels(table, value, depth, color, relative, domain, log, height, shown))
    return alt.layer(*layers).add_params(hidden).properties(width=width, height=height, title=title)


def _spread(base: Any, value: str, error: str) -> Any:
    """`low` and `high`: one standard error to either side."""
    spread = f"datum[{json.dumps(value)}] {{}} datum[{json.dumps(error)}]"
    return base.transform_calculate(low=spread.format("-"), high=spread.format("+"))


def _told_apart(color: str, names: list[str]) -> tuple[Any, Any]:
    """Colours and dashes of models."""
    shown = alt.Color(f"{color}:N", scale=theme.model_scale(names), legend=_LEGEND, title="model")
    return shown, alt.StrokeDash(f"{color}:N", scale=theme.dash_scale(names), legend=None)


def _scale(domain: Extent | None, log: bool) -> alt.Scale:
    range_: Any = list(domain) if domain else alt.Undefined
    return alt.Scale(type="log", domain=range_, nice=False) if log else alt.Scale(zero=False, domain=range_)


def _level(rule: float) -> Any:
    level = alt.Chart(alt.InlineData(values=[{"rule": rule}]))
    return level.mark_rule(strokeDash=[4, 3], color=theme.RULE).encode(y="rule:Q")


# above the lines, whose ends carry names too: to the right the two would meet
_LEGEND = alt.Legend(symbolOpacity=1, symbolType="stroke", symbolStrokeWidth=3, orient="top", columns=3)


def error_bars(base: Any, value: str, table: pd.DataFrame) -> list[Any]:
    """A layer of bars of one standard error to both sides of a value; none for a table without errors."""
    error = f"{value}_se"
    if error not in table or not table[error].notna().any():
        return []
    spread = f"datum[{json.dumps(value)}] {{}} datum[{json.dumps(error)}]"
    ends = base.transform_calculate(low=spread.format("-"), high=spread.format("+"))
    return [ends.mark_rule(opacity=0.6, clip=True).encode(y=alt.Y("low:Q"), y2="high:Q")]


def _over_depth(base: Any, depth: str, within: str | None, title: str) -> tuple[Any, alt.X]:
    """The horizontal axis: depth, or its share of the deepest layer within each model."""
    if within is None:
        return base, alt.X(f"{depth}:Q", title=title or "depth (position among all layers)")
    base = base.transform_joinaggregate(deepest=f"max({depth})", groupby=[within]).transform_calculate(
        relative_depth=f"datum.deepest > 0 ? datum[{json.dumps(depth)}] / datum.deepest : 0"
    )
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f")
    title = title or "depth (share of the deepest)"
    return base, alt.X("relative_depth:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def _end_labels(
    table: pd.DataFrame,
    value: str,
    depth: str,
    color: str,
    relative: bool,
    domain: Extent | None,
    log: bool,
    height: int,
    colour: alt.Color,
) -> Any:
    """Each line's name at its end, moved apart where lines end together."""
    last = table.dropna(subset=[value]).sort_values(depth, kind="stable").groupby(color, sort=False).tail(1)
    names = [str(name) for name in last[color]]
    low, high = domain or (float(table[value].min()), float(table[value].max()))
    dotted = [theme.look_of(name).dash == theme.DOTTED for name in names]
    rows = []
    for kind in (False, True):  # random networks are hidden until asked for: they make no room
        chosen = [i for i, d in enumerate(dotted) if d == kind]
        ends = [float(last[value].iloc[i]) for i in chosen]
        moved = apart([_pixels(v, low, high, log, height) for v in ends], LABEL, height)
        for i, end, up in zip(chosen, ends, moved, strict=True):
            at = 1.0 if relative else float(last[depth].iloc[i])
            shift = _pixels(end, low, high, log, height) - up
            rows.append({color: names[i], "end": at, value: end, "shift": round(shift, 1)})
    return (
        alt.Chart(alt.InlineData(values=rows))
        .transform_filter(f"indexof(hidden, datum[{json.dumps(color)}]) < 0")
        .mark_text(align="left", dx=5, dy=alt.ExprRef("datum.shift"))
        .encode(
            x="end:Q",
            y=f"{value}:Q",
            text=f"{color}:N",
            color=colour,
        )
    )


def _pixels(value: float, low: float, high: float, log: bool, height: int) -> float:
    """Height of a value above the axis."""
    import math

    if log:
        value, low, high = (math.log(max(v, 1e-12)) for v in (value, low, high))
    return height * (value - low) / (high - low) if high > low else 0.0


def apart(places: Sequence[float], gap: float, height: float) -> list[float]:
    """Places moved as little as it takes to stand `gap` apart, in their order, at most one gap beyond either end."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [min(max(places[i], 0.0), height) for i in order]
    for _ in range(60):
        for i in range(len(moved) - 1):
            short = gap - (moved[i + 1] - moved[i])
            if short > 0.01:
                moved[i], moved[i + 1] = moved[i] - short / 2, moved[i + 1] + short / 2
    found = [0.0] * len(places)
    for place, i in zip(moved, order, strict=True):
        found[i] = place
    return found
