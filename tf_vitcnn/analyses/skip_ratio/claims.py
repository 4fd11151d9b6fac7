"""What skip_ratio's tables say about the paper's claims (Fig. 7), and how they are drawn (Fig. 7, E.1, E.2)."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tf_vitcnn.charts import Drawing, marks, theme
from tf_vitcnn.errors import MissingLayer
from tf_vitcnn.verdicts.claim import Outcome, claim
from tf_vitcnn.verdicts.evidence import CLS_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.structure import family
from tf_vitcnn.verdicts.verdict import above


def mean_ratios(result: Result, token: str = "mean") -> np.ndarray:
    """A token's mean ratio at every residual addition, in depth order."""
    rows = result.once(("rows", token), lambda: _rows_of(result, token))
    return result.table["ratio"].to_numpy()[rows]


def _rows_of(result: Result, token: str) -> np.ndarray:
    branches = result.require([unit.branch for unit in result.structure.units])
    of_token = result.table[result.table.token == token]
    rows = dict(zip(of_token.layer, of_token.index, strict=True))
    missing = [branch for branch in branches if branch not in rows]
    if missing:
        raise MissingLayer(f"{result.path} has no row of {token} at {missing[0]}")
    return np.array([rows[branch] for branch in branches])


@claim(
    "skip-stronger-in-vit",
    "Fig. 7",
    "The mean ratio over layers is larger in the ViT (spatial tokens) than in the ResNet.",
    Need("skip_ratio", VIT),
    Need("skip_ratio", RESNET),
)
def skip_stronger_in_vit(vit: Result, resnet: Result) -> Outcome:
    """Mean over layers of the spatial mean, against the ResNet's."""
    return above(np.nanmean(mean_ratios(vit)), np.nanmean(mean_ratios(resnet)))


@claim(
    "phase-transition",
    "Fig. 7",
    "The class token's mean ratio falls from the first to the second half of the blocks, the spatial tokens' rises.",
    Need("skip_ratio", CLS_VIT),
)
def phase_transition(vit: Result) -> Outcome:
    """Second half over first half: below 1 for the class token, above 1 for the spatial mean."""
    halves = [np.array_split(mean_ratios(vit, token), [vit.structure.middle]) for token in ("cls", "mean")]
    (cls_low, cls_high), (low, high) = ([float(np.nanmean(half)) for half in both] for both in halves)
    return [above(cls_low, cls_high, what="class token, first half"), above(high, low, what="spatial, second half")]


CLAIMS = (skip_stronger_in_vit, phase_transition)


def draw(table: pd.DataFrame) -> Any:
    """Ratio by layer and token as a heatmap, above lines over depth; a ResNet has the lines alone."""
    return alt.vconcat(maps(table), lines(table)) if (table.token != "mean").any() else lines(table)


def lines(table: pd.DataFrame) -> Any:
    """Fig. 7 right, E.2: ratio and cosine over depth, class token and spatial mean."""
    summary = table[table.token.isin(["cls", "dist", "mean"])]
    return alt.hconcat(
        _lines(summary, "ratio", "|z| / |f(z)|", alt.Scale(type="log")),
        _lines(summary, "cosine", "cosine of z and f(z)", alt.Scale(zero=False)),
    )


def maps(table: pd.DataFrame) -> Any:
    """Fig. 7 left, E.1: ratio by layer and token."""
    panels = [
        marks.heatmap(
            part,
            "ratio",
            x="depth",
            y="token",
            x_layer="layer",
            y_layer=None,
            y_title="token",
            title=f"{model}: skip over branch",
            value_title="|z| / |f(z)|",
            scale=alt.Scale(scheme=theme.INTENSITY, type="log"),
        )
        for model, part in table[table.token != "mean"].groupby("model", sort=False)
    ]
    return panels[0] if len(panels) == 1 else alt.hconcat(*panels).resolve_scale(color="independent")


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
    ),
    Drawing(
        ("7", "E.2"),
        "Skip connection over branch, over depth",
        "Ratio and cosine at every residual addition, class token and mean over spatial tokens apart. In the paper "
        "ratios are larger in the ViT than in the ResNet.",
        lines,
        together=True,
    ),
)


def _lines(table: pd.DataFrame, value: str, title: str, scale: alt.Scale) -> Any:
    return marks.depth_lines(table, value, dash="token", relative=True, y_title=title, y_scale=scale)
