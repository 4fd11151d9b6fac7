"""One theme for all figures: fonts, sizes, colours. Importing it registers and enables it in Altair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import altair as alt

# Okabe and Ito's palette without yellow and black, then Tol's muted: told apart in all common colour deficiencies.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"),
    *("#332288", "#882255", "#117733", "#999933", "#AA4499", "#661100"),
)
SIMILARITY: Final = "viridis"  # 0..1, perceptually uniform
INTENSITY: Final = "magma"  # maps with their own maximum
DIVERGING: Final = "purpleorange"  # around a neutral value
NO_VALUE = "#dddddd"  # a cell without a number
FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
INK = "#222222"

_models: ContextVar[tuple[str, ...]] = ContextVar("models", default=())


@contextmanager
def models(names: Iterable[str]) -> Iterator[None]:
    """Within it each of these models keeps one colour in every chart."""
    token = _models.set(tuple(dict.fromkeys(names)))
    try:
        yield
    finally:
        _models.reset(token)


def model_scale(names: Iterable[str]) -> alt.Scale:
    """The colours of these models: those of the surrounding `models(...)`, else by alphabet."""
    shown = sorted(dict.fromkeys(map(str, names)))
    order = list(_models.get()) or shown
    order += [name for name in shown if name not in order]
    return alt.Scale(domain=shown, range=[PALETTE[order.index(name) % len(PALETTE)] for name in shown])


@alt.theme.register("tf_vitcnn", enable=True)
def tf_vitcnn() -> alt.theme.ThemeConfig:
    """Vega-Lite's configuration of every chart."""
    text: dict[str, Any] = {"font": FONT, "labelFont": FONT, "titleFont": FONT}
    config: dict[str, Any] = {
        "font": FONT,
        "background": "white",
        "view": {"stroke": "#888888", "strokeWidth": 0.5, "continuousWidth": 320, "continuousHeight": 240},
        "title": {"font": FONT, "fontSize": 13, "fontWeight": 600, "anchor": "start", "color": INK, "offset": 8},
        "axis": {
            **{k: v for k, v in text.items() if k != "font"},
            "labelFontSize": 10,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "titleColor": INK,
            "labelColor": INK,
            "gridColor": "#eeeeee",
            "domainColor": "#888888",
            "tickColor": "#888888",
        },
        "legend": {
            "labelFont": FONT,
            "titleFont": FONT,
            "labelFontSize": 10,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelLimit": 260,
        },
        "header": {"labelFont": FONT, "titleFont": FONT, "labelFontSize": 10, "titleFontSize": 11, "labelLimit": 260},
        "range": {"category": list(PALETTE), "heatmap": {"scheme": SIMILARITY}, "ramp": {"scheme": SIMILARITY}},
        "line": {"strokeWidth": 2},
        "point": {"filled": True, "size": 30},
        "scale": {"invalid": {"color": {"value": NO_VALUE}}},
    }
    return alt.theme.ThemeConfig(config=config)  # type: ignore[typeddict-item]
