"""Charts in notebooks without a network: Vega travels inside the output, as the converter ships it."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import altair as alt
from altair.utils.html import spec_to_html

from tf_vitcnn.devices import notebook

NAME = "tf_vitcnn"
MARGIN = 40  # pixels around a chart, so that its frame needs no scroll bars


class Shown:
    """A chart as a notebook shows it."""

    def __init__(self, chart: Any) -> None:
        self.chart = chart

    def _repr_html_(self) -> str:
        return framed(self.chart.to_dict())


def show(chart: Any) -> Shown:
    """A chart that any notebook draws, offline too, whichever renderer of Altair is enabled."""
    return Shown(chart)


def framed(spec: dict[str, Any]) -> str:
    """The chart with all that draws it, in a frame of its own as large as it is."""
    page = spec_to_html(
        spec,
        mode="vega-lite",
        vega_version=alt.VEGA_VERSION,
        vegalite_version=alt.VEGALITE_VERSION,
        vegaembed_version=alt.VEGAEMBED_VERSION,
        template="inline",
        embed_options={"renderer": "svg", "actions": {"source": False, "compiled": False, "editor": False}},
    )
    width, height = _size(spec)
    return (
        f'<iframe srcdoc="{escape(page)}" width="{width}" height="{height}" title="chart" '
        'style="border:0;max-width:100%"></iframe>'
    )


def _size(spec: dict[str, Any]) -> tuple[int, int]:
    """Of its drawing, in pixels."""
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=version)
    found = re.search(r'<svg[^>]*\bwidth="([\d.]+)"[^>]*\bheight="([\d.]+)"', drawn)
    width, height = (float(found[1]), float(found[2])) if found else (600.0, 400.0)
    return round(width) + MARGIN, round(height) + MARGIN


def enable() -> None:
    """Makes this the renderer of every chart, where a notebook is there to show it."""

    def render(spec: dict[str, Any], **metadata: Any) -> dict[str, str]:
        return {"text/html": framed(spec)}

    alt.renderers.register(NAME, render)
    if notebook.running():
        alt.renderers.enable(NAME)
