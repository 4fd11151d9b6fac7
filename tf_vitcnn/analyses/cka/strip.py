"""How cka_images' tables are drawn: a strip of thumbnails for each pair of layers."""

from __future__ import annotations

import base64
from typing import Any

import altair as alt
import pandas as pd

from tf_vitcnn.analyses.cka.images import NAME
from tf_vitcnn.analyses.layout import THUMBNAIL
from tf_vitcnn.charts import Drawing, Panel, words

ROOM, LINE = 10, 16  # between pictures, and for the words beneath
COLUMNS = 10


def strip(table: pd.DataFrame) -> list[Panel]:
    """One panel per pair whose pictures are there; none without pictures."""
    pictures = table.attrs.get("pictures") or {}
    shown = table[table.image.astype(str).isin(list(pictures))]
    return [
        Panel(_pair(part, pictures), f"{x} and {y}")
        for (x, y), part in shown.groupby(["layer_x", "layer_y"], sort=False)
    ]


def _pair(table: pd.DataFrame, pictures: Any) -> Any:
    rows = table[["rank", "image", "influence", "share"]].sort_values("rank").reset_index(drop=True)
    rows["picture"] = [f"data:image/png;base64,{base64.b64encode(pictures[str(i)]).decode()}" for i in rows.image]
    across, down = min(COLUMNS, len(rows)), -(-len(rows) // COLUMNS)
    column, row = f"(datum.rank - 1) % {COLUMNS}", f"floor((datum.rank - 1) / {COLUMNS})"
    base = alt.Chart(rows).transform_calculate(
        left=f"{column} * {THUMBNAIL + ROOM}",
        top=f"{row} * {THUMBNAIL + ROOM + LINE}",
        words="(datum.influence < 0 ? '- ' : '+ ') + format(datum.share, datum.share < 0.1 ? '.1%' : '.0%')",
    )
    said = words.tip("'image ' + datum.image + ' of the source, influence '", words.number("influence", "+.3g"))

    width, height = across * (THUMBNAIL + ROOM), down * (THUMBNAIL + ROOM + LINE)
    place = {"x": alt.X(**_axis("left", width)), "y": alt.Y(**_axis("top", height, reverse=True))}
    photographs = base.mark_image(width=THUMBNAIL, height=THUMBNAIL, align="left", baseline="top").encode(
        url="picture:N", tooltip=said, **place
    )
    captions = base.mark_text(align="center", baseline="top", dx=THUMBNAIL / 2, dy=THUMBNAIL + 3).encode(
        text="words:N", **place
    )
    return (photographs + captions).properties(width=width, height=height)


def _axis(field: str, length: int, reverse: bool = False) -> dict[str, Any]:
    scale = alt.Scale(domain=[0, length], nice=False, reverse=reverse)
    return {"field": field, "type": "quantitative", "scale": scale, "axis": None}


STRIP = Drawing(
    (),
    "The images that a similarity rests on",
    "Of chosen pairs of layers the images whose weight would move CKA most, largest first, and each one's share of the "
    "influence of all images. + raises the similarity, - lowers it: a few large shares mean that few images carry it.",
    strip,
    of=NAME,
)
