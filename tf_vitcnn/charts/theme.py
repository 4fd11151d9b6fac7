"""One theme for all figures: fonts, sizes, colours. Importing it registers and enables it in Altair."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

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
RULE, GRID, PAPER = "#888888", "#eeeeee", "#ffffff"
SOLID, DOTTED = (1, 0), (2, 3)
# What each of the theme's colours is on a dark page: as far from its background as on a white one, and from the others.
DARK: Final = {
    **{INK: "#e4e4e4", RULE: "#8a8f98", GRID: "#2c313a", PAPER: "#16191e", NO_VALUE: "#3a3f48"},
    **{"#0072B2": "#3f8fd8", "#D55E00": "#f2702a", "#009E73": "#35d0a5", "#CC79A7": "#f0b4d4", "#56B4E9": "#a5dcff"},
    **{"#E69F00": "#ffc94d", "#332288": "#9585f0", "#882255": "#c9497f", "#117733": "#3f9a55", "#999933": "#c9c964"},
    **{"#AA4499": "#d067c6", "#661100": "#c0705a"},
}
# The part of a ramp that lines and points take: its light end is no line on white, its dark end none on a dark page.
LINES: Final = alt.SchemeParams(name=SIMILARITY, extent=[0.0, 0.87])
DARK_EXTENT: Final = (0.25, 1.0)


class Look(NamedTuple):
    """How a model's lines are drawn everywhere."""

    colour: str
    dash: tuple[int, int] = SOLID


_looks: ContextVar[Mapping[str, Look] | None] = ContextVar("looks", default=None)


@contextmanager
def models(
    names: Iterable[str], twins: Mapping[str, str] | None = None, families: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Within it each of these models keeps one look in every chart.

    `twins`: a network with random weights -> the trained one whose hue it takes, dotted. `families` tells what kind of
    network each is: with more networks than colours, a family has one hue and its members differ in lightness.
    """
    token = _looks.set(looks(list(dict.fromkeys(names)), twins or {}, families or {}))
    try:
        yield
    finally:
        _looks.reset(token)


def looks(names: list[str], twins: Mapping[str, str], families: Mapping[str, str]) -> dict[str, Look]:
    """The look of each model: no two solid lines of one colour."""
    own = [name for name in names if twins.get(name) not in names]
    colours = dict(zip(own, PALETTE, strict=False)) if len(own) <= len(PALETTE) else _by_family(own, families)
    return {n: Look(colours[n]) if n in colours else Look(colours[twins[n]], DOTTED) for n in names}


def look_of(name: str) -> Look:
    """The look of that model in the surrounding `models(...)`."""
    return (_looks.get() or {}).get(name) or Look(PALETTE[0])


def on_dark() -> dict[str, str]:
    """What each colour is on a dark page: the theme's, and lighter ones of a surrounding `models(...)` by family."""
    around = {look.colour for look in (_looks.get() or {}).values()}
    return {**DARK, **{colour: _lighter(colour) for colour in sorted(around - set(PALETTE))}}


def root_scale() -> alt.Scale:
    """Colours of a map with its own maximum: what is small is seen as well."""
    return alt.Scale(scheme=INTENSITY, type="sqrt", domainMin=0)


def scale_to(largest: float) -> alt.Scale:
    """Colours of maps that are compared: what is larger is as light as `largest`."""
    return alt.Scale(scheme=INTENSITY, domain=[0, largest], clamp=True)


def _by_family(names: list[str], families: Mapping[str, str]) -> dict[str, str]:
    """One hue per family, from dark to light within it."""
    kinds = list(dict.fromkeys(families.get(name, "") for name in names))
    found = {}
    for i, kind in enumerate(kinds):
        members = [name for name in names if families.get(name, "") == kind]
        for j, name in enumerate(members):
            lightness = 0.25 + 0.45 * j / max(1, len(members) - 1)
            rgb = colorsys.hls_to_rgb((0.57 + i / len(kinds)) % 1, lightness, 0.75)
            found[name] = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
    return found


def _lighter(colour: str) -> str:
    """The same hue, its lightness in the upper half."""
    rgb = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    found = colorsys.hls_to_rgb(hue, 0.45 + lightness / 2, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in found)


def _shown(names: Iterable[str]) -> dict[str, Look]:
    """The looks of these models, in the surrounding order; by alphabet where nothing surrounds them."""
    wanted = sorted(dict.fromkeys(map(str, names)))
    around = _looks.get() or {}
    found = [name for name in around if name in wanted]
    missing = [name for name in wanted if name not in around]
    more = looks([*found, *missing], {}, {}) if missing else {}
    return {name: around.get(name) or more[name] for name in [*found, *missing]}


def model_scale(names: Iterable[str]) -> alt.Scale:
    """The colours of these models: those of the surrounding `models(...)`, else by alphabet."""
    shown = _shown(names)
    return alt.Scale(domain=list(shown), range=[look.colour for look in shown.values()])


def dash_scale(names: Iterable[str]) -> alt.Scale:
    """Solid lines for trained models, dotted ones for their random twins."""
    shown = _shown(names)
    return alt.Scale(domain=list(shown), range=[list(look.dash) for look in shown.values()])


@alt.theme.register("tf_vitcnn", enable=True)
def tf_vitcnn() -> alt.theme.ThemeConfig:
    """Vega-Lite's configuration of every chart."""
    text: dict[str, Any] = {"labelFont": FONT, "titleFont": FONT, "labelColor": INK, "titleColor": INK}
    config: dict[str, Any] = {
        "font": FONT,
        "background": PAPER,
        "view": {"stroke": RULE, "strokeWidth": 0.5, "continuousWidth": 320, "continuousHeight": 240},
        "title": {"font": FONT, "fontSize": 13, "fontWeight": 600, "anchor": "start", "color": INK, "offset": 8},
        "axis": {
            **text,
            "labelFontSize": 10,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "gridColor": GRID,
            "domainColor": RULE,
            "tickColor": RULE,
        },
        "legend": {**text, "labelFontSize": 10, "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 260},
        "header": {**text, "labelFontSize": 10, "titleFontSize": 11, "labelLimit": 260},
        "range": {"category": list(PALETTE), "heatmap": {"scheme": SIMILARITY}, "ramp": {"scheme": SIMILARITY}},
        "line": {"strokeWidth": 2},
        "point": {"filled": True, "size": 30},
        "text": {"font": FONT, "fontSize": 10, "color": INK},
        "scale": {"invalid": {"color": {"value": NO_VALUE}}},
    }
    return alt.theme.ThemeConfig(config=config)  # type: ignore[typeddict-item]
