"""How skip_ratio's tables are drawn: ratio by layer and token, and lines over depth (Fig. 7, E.1, E.2)."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side
from tf_vitcnn.charts.drawing import Extent, extent
from tf_vitcnn.verdicts.structure import family

RATIO, COSINE = "|z| / |f(z)|", "cosine of z and f(z)"
AXES: dict[str, Any] = {"x": "depth", "y": "token", "x_layer": "layer", "y_layer": None, "y_title": "token"}
SPOKEN = {"cls": "class token", "dist": "distillation token", "mean": "mean of spatial tokens or locations"}


def draw(table: pd.DataFrame) -> Any:
    """Ratio by layer and token as a heatmap, above lines over depth; a ResNet has the lines alone."""
    over_depth = side_by_side(lines(table))
    if (table.token == "mean").all():
        return over_depth
    by_token = side_by_side([*maps(table), *errors(table)])
    by_token = by_token.resolve_scale(color="independent") if hasattr(by_token, "hconcat") else by_token
    return alt.vconcat(by_token, over_depth)


def lines(table: pd.DataFrame) -> list[Panel]:
    """Fig. 7 right, E.2: ratio and cosine over depth, one panel per kind of token."""
    summary = table[table.token.isin(list(SPOKEN))]
    kinds = [token for token in SPOKEN if (summary.token == token).any()]
    return [
        Panel(_lines(summary[summary.token == token], value, extent([summary[value]])), f"{SPOKEN[token]}, {value}")
        for value in ("ratio", "cosine")
        for token in kinds
    ]


def _lines(table: pd.DataFrame, value: str, domain: Extent) -> Any:
    title = RATIO if value == "ratio" else COSINE
    low, high = domain
    domain = (low / 1.1, high * 1.1) if value == "ratio" else (min(low, 0.0), max(high, 0.0))
    level = 1.0 if value == "ratio" else 0.0
    return marks.depth_lines(
        table, value, error=f"{value}_se", relative=True, y_title=title, domain=domain, log=value == "ratio", rule=level
    )


def maps(table: pd.DataFrame, ratios: Extent | None = None) -> list[Panel]:
    """Fig. 7 left, E.1: ratio by layer and token, neutral where skip and branch are equally large."""
    tokens = table[table.token != "mean"]
    scale = marks.centred_on_one(ratios or extent([tokens.ratio]))
    return [
        Panel(marks.heatmap(part, "ratio", value_title=RATIO, error="ratio_se", scale=scale, **AXES), str(model))
        for model, part in tokens.groupby("model", sort=False)
    ]


def errors(table: pd.DataFrame, largest: Extent | None = None) -> list[Panel]:
    """How far other images would move each ratio."""
    of_models = table[table.token != "mean"].groupby("model", sort=False)
    drawn = [(marks.error_map(part, "ratio_se", largest, **AXES), str(model)) for model, part in of_models]
    return [Panel(chart, model) for chart, model in drawn if chart is not None]


def _has_tokens(sidecar: dict[str, Any]) -> bool:
    """A ResNet's positions are averaged: its tables have no rows of single tokens."""
    return family(sidecar["subjects"][0]) != "resnet"


DRAWINGS = (
    Drawing(
        ("7", "E.1"),
        "Skip connection over branch, by layer and token",
        "Ratio of norms |z| / |f(z)| at every residual addition. In the paper the class token is kept in the lower "
        "half of the ViT and changed in the upper half; spatial tokens the other way round.",
        maps,
        _has_tokens,
        shared="ratio",
    ),
    Drawing(
        ("7", "E.2"),
        "Skip connection over branch, over depth",
        "Ratio and cosine at every residual addition, class token and mean over spatial tokens apart. In the paper "
        "ratios are larger in the ViT than in the ResNet.",
        lines,
        together=True,
    ),
    Drawing(
        (),
        "How sure these ratios are",
        "Standard error of each ratio over images: how far the number would move with other images of the same kind.",
        errors,
        _has_tokens,
        shared="ratio_se",
    ),
)
