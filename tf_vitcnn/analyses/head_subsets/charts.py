"""How head_subsets' tables are drawn: a point per run of heads, one panel per ResNet layer (Fig. 5)."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.charts import Drawing, marks, theme, words
from tf_vitcnn.charts.drawing import Extent

HEADER = alt.Header(labelExpr=words.BRIEF_LABEL)


def draw(table: pd.DataFrame, cka: Extent | None = None) -> Any:
    """Mean distance against CKA, coloured by how many heads are in the run, one facet per layer."""
    used = ["model", "layer", "heads", "size", "against", "depth_y", "layer_y", "distance_px", "cka", "cka_se"]
    shown = table[[c for c in used if c in table]]
    layers = list(shown.sort_values("depth_y").layer_y.unique())
    tip = words.tip(
        "'heads ' + datum.heads + ' x '",
        words.brief("layer_y"),
        "': ' + format(datum.distance_px, '.1f') + ' pixels, CKA '",
        words.number("cka", error="cka_se"),
    )
    base = alt.Chart().encode(
        x=alt.X("distance_px:Q", title="mean distance (pixels)", scale=alt.Scale(zero=False)),
        y=alt.Y("cka:Q", title="CKA", scale=_whole(cka)),
        color=alt.Color("size:Q", title="heads in the run", scale=alt.Scale(scheme=theme.LINES)),
    )
    points = base.mark_circle(size=30, opacity=0.8).encode(tooltip=tip)
    return (
        alt.layer(*marks.error_bars(base, "cka", shown), points, data=shown)
        .properties(width=120, height=110)
        .facet(facet=alt.Facet("layer_y:N", sort=layers, title=None, header=HEADER), columns=4, spacing=12)
        .resolve_axis(x="independent", y="independent")  # a last row that is not full has no axes of its own
    )


def _whole(cka: Extent | None) -> alt.Scale:
    """From zero to a round number: a point at the end of the range would be cut in half."""
    return alt.Scale(domain=[min(0.0, cka[0]), cka[1]], nice=True) if cka else alt.Scale(zero=False)


DRAWINGS = (
    Drawing(
        ("5",),
        "Runs of first-block heads against lower ResNet layers",
        "Each point is a contiguous run of heads, sorted by attention distance. Falling points: local heads see "
        "like the ResNet, global heads do not.",
        draw,
        shared="cka",
    ),
)
