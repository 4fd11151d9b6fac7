"""Every committed table is drawn, no part of its chart empty: a facet once drew nothing at all, without an error."""

from pathlib import Path
from xml.etree import ElementTree

import altair as alt
import pandas as pd
import pytest

from tf_vitcnn import analyses
from tf_vitcnn.analyses import read_table
from tf_vitcnn.analyses.base import drawings_of
from tf_vitcnn.report.model import vegalite_version
from tf_vitcnn.tables.read import read_sidecar

SAVED = Path(__file__).parents[2] / "saved_results"
SVG = "{http://www.w3.org/2000/svg}"


def tables():
    """Paths of all committed tables of analyses, each with whether it is the first of its kind: drawn alike."""
    seen = set()
    for path in sorted(SAVED.glob("*/*/*.csv")):
        if path.parent.name not in analyses.names():
            continue
        sidecar = read_sidecar(path)
        drawn = tuple(d.title for d in drawings_of(analyses.find(path.parent.name)) if d.fits(sidecar))
        first = (path.parent.name, drawn) not in seen
        seen.add((path.parent.name, drawn))
        yield pytest.param(path, id=path.relative_to(SAVED).as_posix(), marks=() if first else pytest.mark.slow)


def undrawn(chart):
    """What a chart asks for and Vega does not draw: marks without a shape, and facets without a cell."""
    import vl_convert

    spec = chart.to_dict()
    root = ElementTree.fromstring(
        vl_convert.vegalite_to_svg(spec, vl_version=vegalite_version(alt.SCHEMA_VERSION), allowed_base_urls=[])
    )
    groups = [g for g in root.iter(f"{SVG}g") if "role-mark" in g.get("class", "")]
    names = {g.get("class").split()[-1] for g in groups}
    empty = [g.get("class") for g in groups if not any(_visible(part) for part in g)]
    return empty + [f"{marks(spec) - len(names)} marks not drawn"] * (len(names) != marks(spec))


def marks(spec):
    """How many marks a chart has, layers and panels counted."""
    inner = [spec["spec"]] if "spec" in spec else []
    parts = [*inner, *(part for kind in ("layer", "hconcat", "vconcat", "concat") for part in spec.get(kind, ()))]
    return sum(map(marks, parts)) if parts else 1


def _visible(part):
    return part.tag != f"{SVG}path" or bool(part.get("d"))


@pytest.mark.parametrize("path", list(tables()))
def test_nothing_of_a_committed_table_stays_empty(path):
    table = read_table(path)
    assert undrawn(analyses.find(path.parent.name).chart(table)) == []
    for drawing in drawings_of(analyses.find(path.parent.name)):
        if drawing.of not in ("", path.parent.name):  # of the table beside this one
            continue
        for panel in drawing.panels([table])[0] if drawing.fits(table.attrs["sidecar"]) else ():
            assert undrawn(panel.chart) == [], panel.title


def test_an_empty_facet_would_be_noticed():
    """The instrument itself: a legend that facets share makes Vega draw none of them."""
    rows = pd.DataFrame({"panel": ["a", "b"], "x": [0, 0], "v": [0.2, 0.4]})
    base = alt.Chart(rows).mark_rect()
    assert undrawn(base.encode(x="x:O", color="v:Q").facet("panel:N")) == []
    assert undrawn(base.transform_filter("datum.v > 1").encode(x="x:O").facet("panel:N")) != []
    line = alt.Chart(rows).mark_line().encode(x="x:Q", y="nothing:Q")
    assert undrawn(line) != []
