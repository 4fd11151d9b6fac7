"""How tables of tokens are drawn: quantiles of norms over depth, maps of outliers, the last layer's histogram."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side, theme, words
from tf_vitcnn.charts.drawing import Extent, extent

SHOWN = ("q00", "q01", "q10", "q50", "q90", "q99", "q100")
SHARES = {
    "outlier_share": "share of tokens that are outliers",
    "outlier_attention": "share of attention that they draw",
    "neighbour_cosine": "cosine of neighbouring tokens",
}
MAP, HISTOGRAM, POST = "outlier_at_r", "histogram_", "resid/post"


def draw(table: pd.DataFrame) -> Any:
    """All three under each other."""
    parts = [side_by_side(norms(table)), side_by_side(shares(table))]
    parts += [panel.chart for panel in places(table)]
    parts += [histogram(table)] if table.statistic.str.startswith(HISTOGRAM).any() else []
    return alt.vconcat(*parts).resolve_scale(color="independent", strokeDash="independent")


def norms(table: pd.DataFrame, span: Extent | None = None) -> list[Panel]:
    """Bands of quantiles over depth, one panel per model: the widest from the smallest to the largest norm."""
    rows = _quantiles(table)
    x = alt.X("depth:Q", title="depth (position among all layers)")
    scale = alt.Scale(type="log", nice=False, domain=list(span or extent([_positive(rows)])))
    y = alt.Y("value:Q", title="norm of spatial tokens", scale=scale)
    panels = []
    for model, part in rows.groupby("model", sort=False):
        base = alt.Chart(part[["model", "depth", "layer", "statistic", "value", *_error(part)]])
        layers = []
        for low, high, opacity in (("q00", "q100", 0.12), ("q01", "q99", 0.22), ("q10", "q90", 0.35)):
            band = base.transform_filter(alt.FieldOneOfPredicate(field="statistic", oneOf=[low, high]))
            layers.append(band.mark_line(opacity=2.2 * opacity, strokeWidth=1).encode(x=x, y=y, detail="statistic:N"))
        middle = base.transform_filter("datum.statistic === 'q50'")
        layers.append(middle.mark_line(strokeWidth=2.5).encode(x=x, y=y))
        tip = words.tip(words.brief("layer"), "' ' + datum.statistic + ': '", words.number("value", ".4g", "value_se"))
        layers += marks.error_bars(base.encode(x=x), "value", part)
        layers.append(base.mark_point(size=12, opacity=0.5).encode(x=x, y=y, tooltip=tip))
        panels.append(Panel(alt.layer(*layers).properties(width=320, height=240), str(model)))
    return panels


def shares(table: pd.DataFrame) -> list[Panel]:
    """Share of outliers and of the attention that they draw, and the cosine of neighbours, over depth."""
    rows = table[table.layer.str.endswith(POST)].dropna(subset=["value"])
    found = [(name, rows[rows.statistic == name]) for name in SHARES]
    return [
        Panel(
            marks.depth_lines(
                part,
                "value",
                error="value_se",
                relative=True,
                y_title=SHARES[name],
                # where there is no outlier the axis still has a scale
                domain=None if name == "neighbour_cosine" else (0, max(0.01, 1.1 * float(part.value.max()))),
            ),
            SHARES[name],
        )
        for name, part in found
        if len(part)
    ]


def places(table: pd.DataFrame, span: Extent | None = None) -> list[Panel]:
    """Share of the images in which the token at a place is an outlier, one map per layer; none without an outlier."""
    rows = _places(table).sort_values("depth")
    if not rows.value.gt(0).any():
        return []
    at = rows.statistic.str.extract(rf"{MAP}(\d+)_c(\d+)").astype(int)
    rows = rows.assign(row=at[0], col=at[1])
    most = max((span or extent([rows.value]))[1], 0.01)  # two images in a thousand stay dark
    scale = alt.Scale(scheme=theme.INTENSITY, type="sqrt", domain=[0, most])  # one for all maps
    said = "share of images in which the token is an outlier"
    return [Panel(marks.small_maps(rows, "value", scale=scale, title=said, value_title=said))]


def histogram(table: pd.DataFrame) -> Any:
    """Share of the last layer's tokens by norm; a second hump at the right are outliers."""
    rows = table[table.statistic.str.startswith(HISTOGRAM)]
    base = (
        alt.Chart(rows[["model", "layer", "statistic", "value", *_error(rows)]])
        .transform_filter("indexof(hidden, datum.model) < 0")
        .transform_calculate(norm=f"toNumber(substring(datum.statistic, {len(HISTOGRAM)}))")
        .encode(
            x=alt.X("norm:Q", title="norm", scale=alt.Scale(type="log", nice=False)),
            color=alt.Color("model:N", scale=theme.model_scale(rows.model)),
            strokeDash=alt.StrokeDash("model:N", scale=theme.dash_scale(rows.model), legend=None),
        )
    )
    shown = alt.Y("value:Q", title="share of tokens")
    said = ["datum.model + ', norm ' + format(datum.norm, '.4g') + ': '", words.number("value", ".3g", "value_se")]
    line = base.mark_line(interpolate="step-after").encode(y=shown, tooltip=words.tip(*said))
    bars = marks.error_bars(base, "value", rows)
    hidden = alt.param(name="hidden", value=[])
    return alt.layer(*bars, line).add_params(hidden).properties(width=420, height=200, title="last layer")


def _quantiles(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.statistic.isin(SHOWN) & table.layer.str.endswith(POST)]


def _positive(rows: pd.DataFrame) -> pd.Series:
    return rows.value[rows.value > 0]  # what a logarithmic axis can show


def _places(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.statistic.str.startswith(MAP) & table.layer.str.endswith(POST)]


def _error(table: pd.DataFrame) -> list[str]:
    return ["value_se"] if "value_se" in table else []


DRAWINGS = (
    Drawing(
        (),
        "Norms of tokens over depth",
        "Quantiles over images and spatial tokens: the median; lines at 10 and 90, 1 and 99, 0 and 100 %. Where the "
        "highest leave the rest, a few tokens stand out.",
        norms,
        shared=lambda table: _positive(_quantiles(table)),
    ),
    Drawing(
        (),
        "Outliers among tokens, and how alike neighbours are",
        "Share of tokens above the cut, share of the attention that they draw in their block, and mean cosine of "
        "neighbouring tokens.",
        shares,
        together=True,
    ),
    Drawing(
        (),
        "Where outliers lie",
        "Share of the images in which the token at a place is an outlier, for each block.",
        places,
        shared=lambda table: _places(table).value,
    ),
    Drawing(
        (),
        "Norms of the last block's tokens",
        "A second hump far to the right are outliers.",
        histogram,
        together=True,
    ),
)
