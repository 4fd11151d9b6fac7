"""How attention_distance's tables are drawn: heads sorted by distance, one line per layer (Fig. 3, 4, C.5, C.6)."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side, theme, words
from tf_vitcnn.charts.drawing import Extent

_ENDS = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00")  # two lowest, two highest layers


def draw(table: pd.DataFrame) -> Any:
    """Sorted heads of the two lowest and the two highest layers."""
    return side_by_side(ends(table))


def ends(table: pd.DataFrame, pixels: Extent | None = None) -> list[Panel]:
    """Sorted heads of the two lowest and the two highest layers of each model."""
    rank = table.groupby("model").depth.rank(method="dense")
    deepest = rank.groupby(table.model).transform("max")
    return heads_sorted(table[(rank <= 2) | (rank > deepest - 2)], pixels)


def heads_sorted(table: pd.DataFrame, pixels: Extent | None = None, every: bool = False) -> list[Panel]:
    """Distance over the rank of the head within its layer, one line per layer, one panel per model."""
    return [Panel(_heads_of(part, pixels, every), str(model)) for model, part in table.groupby("model", sort=False)]


def _heads_of(table: pd.DataFrame, pixels: Extent | None, every: bool) -> Any:
    layers = list(table.sort_values("depth").layer.unique())
    # two blues for the lowest, two warm colours for the highest; a ramp when there are many
    colours = alt.Scale(domain=layers, **({"scheme": theme.LINES} if every else {"range": _ENDS[: len(layers)]}))
    highest = pixels[1] if pixels else float(table.distance_px.max())
    said = ["datum.model + ' '", "datum.layer", "', head ' + datum.head + ': '"]
    said += [words.number("distance_px", ".1f", "distance_px_se"), "' pixels'"]
    shown = ["model", "depth", "layer", "head", "distance_px", "cls_mass", "distance_px_se"]
    ticks = alt.Axis(tickMinStep=1, format="d")
    base = (
        alt.Chart(table[[c for c in shown if c in table]])
        .transform_filter("indexof(hidden, datum.layer) < 0")
        .transform_window(rank="row_number()", sort=[alt.SortField("distance_px")], groupby=["model", "layer"])
        .encode(
            x=alt.X("rank:Q", title="head, sorted by distance", axis=ticks, scale=alt.Scale(zero=False, nice=False)),
            y=alt.Y("distance_px:Q", title="mean attention distance (pixels)", scale=alt.Scale(domain=[0, highest])),
            color=alt.Color("layer:N", scale=colours, sort=layers, title="layer", legend=alt.Legend(symbolOpacity=1)),
        )
    )
    hidden = alt.param(name="hidden", value=[])
    points = base.mark_point().encode(tooltip=words.tip(*said))
    bars = marks.error_bars(base, "distance_px", table)
    return alt.layer(*bars, base.mark_line(), points).add_params(hidden).properties(width=320, height=240)


def spread_and_aim(table: pd.DataFrame) -> list[Panel]:
    """Each head's entropy over depth, and where its mean map peaks; none for tables made before there were these."""
    if "entropy" not in table or not table.entropy.notna().any():
        return []
    columns = ["model", "depth", "layer", "head", "entropy", "entropy_se", "offset_rows", "offset_cols"]
    base = alt.Chart(table[[c for c in columns if c in table]])
    depth = alt.Color("depth:Q", title="depth (position among all layers)", scale=alt.Scale(scheme=theme.LINES))
    head = ["datum.model + ' '", words.brief("layer"), "', head ' + datum.head + ': '"]
    place = "format(datum.offset_rows, '.0f') + ' down, ' + format(datum.offset_cols, '.0f') + ' right'"
    spread = base.encode(
        x=alt.X("depth:Q", title="depth (position among all layers)"),
        y=alt.Y("entropy:Q", title="entropy (share of its maximum)", scale=alt.Scale(domain=[0, 1])),
        color=depth,
    )
    points = spread.mark_point().encode(tooltip=words.tip(*head, words.number("entropy", error=_known(table))))
    farthest = float(table[["offset_rows", "offset_cols"]].abs().max().max()) + 0.5  # the query in the middle
    around = [-farthest, farthest]
    aim = base.mark_point(opacity=0.7).encode(
        x=alt.X("offset_cols:Q", title="to the right (patches)", scale=alt.Scale(domain=around, nice=False)),
        y=alt.Y("offset_rows:Q", title="down (patches)", scale=alt.Scale(domain=around, nice=False, reverse=True)),
        color=depth,
        tooltip=words.tip(*head, place),
    )
    size = {"width": 320, "height": 240}
    drawn = alt.layer(*marks.error_bars(spread, "entropy", table), points)
    return [Panel(drawn.properties(**size), "entropy"), Panel(aim.properties(width=240, height=240), "where it looks")]


def _known(table: pd.DataFrame) -> str | None:
    return "entropy_se" if "entropy_se" in table and table.entropy_se.notna().any() else None


DRAWINGS = (
    Drawing(
        ("3", "4"),
        "Attention distance of every head, two lowest and two highest layers",
        "Heads sorted by mean distance. A line that starts low and ends high: local and global heads side by side.",
        ends,
        shared="distance_px",
    ),
    Drawing(
        ("C.5", "C.6"),
        "Attention distance of every head, all layers",
        "Heads sorted by mean distance, one line per layer, from the lowest (dark) to the highest (light).",
        lambda table, pixels: heads_sorted(table, pixels, every=True),
        shared="distance_px",
    ),
    Drawing(
        (),
        "How widely heads look, and where to",
        "A point is a head. Entropy: 1 is all keys alike, 0 a single one. The second panel: where the head's mean map, "
        "centred on the query, peaks; a head in its middle looks at its own place.",
        spread_and_aim,
    ),
)
