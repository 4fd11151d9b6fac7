"""Charts compute nothing, stay small, and keep one colour per model."""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import synthetic, toys
from tf_vitcnn import analyses
from tf_vitcnn.analyses import read_table
from tf_vitcnn.analyses.base import PerMinibatch, drawings_of
from tf_vitcnn.charts import marks, theme
from tf_vitcnn.engine.door import run

FIGURES = [*map(str, range(1, 14)), "B.1", *(f"C.{i}" for i in range(1, 7)), *(f"D.{i}" for i in range(1, 5))]
FIGURES += ["E.1", "E.2", "F.1", "F.2", "F.3", "G.1", "G.2", "H.1", "H.2"]


SAVED = Path(__file__).parents[2] / "saved_results"


def fields_of(spec):
    """Every field that a channel of the chart reads."""
    found = set()
    if isinstance(spec, dict):
        for key, part in spec.items():
            if key == "encoding" or key == "facet":
                found |= {c["field"] for c in _channels(part) if "field" in c}
            found |= fields_of(part)
    elif isinstance(spec, list):
        for part in spec:
            found |= fields_of(part)
    return found


def _channels(encoding):
    for channel in [encoding, *encoding.values()]:
        yield from (c for c in (channel if isinstance(channel, list) else [channel]) if isinstance(c, dict))


def matrix(n):
    rng = np.random.default_rng(0)
    side = np.arange(n)
    table = pd.DataFrame({"depth_x": np.repeat(side, n), "depth_y": np.tile(side, n), "cka": rng.random(n * n)})
    return table.assign(layer_x="layer" + table.depth_x.astype(str), layer_y="layer" + table.depth_y.astype(str))


def test_every_figure_of_the_paper_has_a_drawing():
    drawn = {number for name in analyses.names() for d in drawings_of(analyses.find(name)) for number in d.figures}
    assert drawn == set(FIGURES)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Plausible tables of every analysis, as a report finds them."""
    root = tmp_path_factory.mktemp("tables")
    files = [*synthetic.cka_results(root), *synthetic.all_results(root)]
    found = [read_table(file) for file in files]
    there = {table.attrs["sidecar"]["analysis"] for table in found}
    # what has no table made up for it shows a real one
    return found + [real(name) for name in analyses.names() if name not in there]


def real(name):
    """A table of real activations."""
    size = {"batch": 12} if issubclass(analyses.find(name), PerMinibatch) else {}
    return run(name, toys.shared("vit"), "digits:test", images=24, **size)


@pytest.mark.parametrize("name", analyses.names())
def test_fields_of_charts_lie_in_the_schema(name, tables):
    """A chart shows what its table says; positions apart, it makes nothing up."""
    schema = analyses.find(name).schema
    mine = [table for table in tables if table.attrs["sidecar"]["analysis"] == name]
    assert mine
    for table in mine:
        record = table.attrs["sidecar"]
        charts = [analyses.find(name).chart(table)]
        charts += [
            panel.chart
            for d in drawings_of(analyses.find(name))
            if not d.of and d.fits(record)
            for panel in d.panels([table])[0]
        ]
        for chart in charts:
            fields = fields_of(chart.to_dict())
            assert fields
            assert fields <= {*schema.keys, *schema.values, *marks.DERIVED}


def test_a_heatmap_of_500_layers_is_small():
    chart = marks.heatmap(matrix(500), "cka")
    assert len(chart.to_html()) < 2_000_000
    assert len(chart.to_json()) < 2_000_000


def test_packed_values_come_back():
    cells = np.array([[0.1234, np.nan], [1.0, -0.02]])
    text, unit = marks.pack(cells)
    assert text == "123,,1000,-20"
    assert unit == 0.001
    assert marks.pack(np.full((1, 2), np.nan)) == (",", 1.0)
    text, unit = marks.pack(np.array([[2.5e-7, 0]]))
    assert float(text.split(",")[0]) * unit == pytest.approx(2.5e-7)


def test_the_page_opens_a_packed_matrix_as_rows():
    """What Vega makes of the text: cell (x, y) has the table's value, and the layer's name."""
    import vl_convert

    table = matrix(3)
    spec = marks.heatmap(table, "cka").to_dict()
    spec["mark"]["aria"] = True  # each cell then tells its values
    spec["encoding"]["tooltip"] = [{"field": field} for field in ("depth_x", "depth_y", "layer_x", "cka")]
    drawn = vl_convert.vegalite_to_svg(spec)
    labels = re.findall(r'aria-label="([^"]*)"[^>]*aria-roledescription="rect', drawn)
    cells = {}
    for label in labels:
        said = dict(part.split(": ", 1) for part in label.split("; "))
        cells[int(said["depth_x"]), int(said["depth_y"])] = (said["layer_x"], float(said["cka"]))
    for row in table.itertuples():
        name, value = cells[row.depth_x, row.depth_y]
        assert name == row.layer_x
        assert value == pytest.approx(row.cka, abs=6e-4)


def test_errors_have_a_map_of_their_own_and_bands_and_bars():
    """One standard error to both sides; nothing where a table has none."""
    from tf_vitcnn.analyses.cka.charts import draw, errors

    layers = synthetic.cka(synthetic.vit(), synthetic.vit(), synthetic.uniform)
    spec = draw(layers).to_dict()
    assert [part["encoding"]["color"]["field"] for part in spec["hconcat"]] == ["cka", "cka_se"]
    assert spec["hconcat"][1]["width"]["step"] < spec["hconcat"][0]["width"]["step"]
    without = layers.assign(cka_se=np.nan)
    assert errors(without) == [] and "hconcat" not in draw(without).to_dict()

    table = pd.DataFrame({"model": "m", "depth": [0, 1], "layer": ["a", "b"], "cka": [0.4, 0.6], "cka_se": [0.1, 0.2]})
    band = marks.depth_lines(table, "cka", error="cka_se").to_dict()["layer"][0]
    ends = {t["as"]: t["calculate"] for t in band["transform"] if t.get("as") in ("low", "high")}
    assert band["mark"]["type"] == "area"
    assert ends == {"low": 'datum["cka"] - datum["cka_se"]', "high": 'datum["cka"] + datum["cka_se"]'}


def test_heads_have_bars_of_one_error():
    table = run("attention_distance", toys.shared("vit"), "digits:test", images=40)
    for kind, of in (("attention_distance", table), ("attention_distance", table.assign(distance_px_se=np.nan))):
        spec = json.dumps(analyses.find(kind).chart(of).to_dict())
        assert ('"rule"' in spec) == of.distance_px_se.notna().all()


def test_block_and_stage_boundaries_are_on_the_axes():
    spec = marks.heatmap(synthetic.cka(synthetic.vit(), synthetic.bit(), synthetic.crossed), "cka").to_dict()
    axis = spec["encoding"]["x"]["axis"]
    assert len(axis["values"]) == 8  # stem, six blocks, final
    labels = json.loads(spec["encoding"]["y"]["axis"]["labelExpr"].removesuffix("[datum.value]"))
    assert {"s1", "s2", "s3", "s4", "final"} <= set(labels.values())


def test_the_class_token_is_named_on_an_axis_of_many_tokens():
    tokens = [*(f"{i:03d}" for i in range(196)), "cls"]
    table = pd.DataFrame({"depth": 0, "layer": "block00/resid/mid", "token": tokens, "ratio": 1.0})
    spec = marks.heatmap(table, "ratio", x="depth", y="token", x_layer="layer", y_layer=None).to_dict()
    ticks = spec["encoding"]["y"]["axis"]["values"]
    assert ticks[-1] == "cls" and ticks[:2] == ["000", "016"] and "192" not in ticks  # its label would be hidden


def test_a_model_keeps_its_colour():
    with theme.models(["a", "b", "c"]):
        alone, both = theme.model_scale(["c"]).to_dict(), theme.model_scale(["b", "c"]).to_dict()
    assert alone["range"][0] == both["range"][1]
    assert theme.model_scale(["c"]).to_dict()["range"] == [theme.PALETTE[0]]


def test_a_dark_page_keeps_colours_apart_and_off_its_background():
    light, dark = list(theme.PALETTE), [theme.DARK[colour] for colour in theme.PALETTE]
    nearest = lambda shown: min(distance(a, b) for a, b in itertools.combinations(shown, 2))  # noqa: E731
    assert nearest(dark) > nearest(light) > 20
    assert min(contrast(colour, theme.DARK[theme.PAPER]) for colour in dark) > 3  # what WCAG asks of graphics
    many = [f"net{i}" for i in range(14)]
    with theme.models(many):
        assert min(contrast(theme.on_dark()[theme.look_of(n).colour], theme.DARK[theme.PAPER]) for n in many) > 3


def rgb(colour):
    shares = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG's ratio of two colours' luminances."""
    low, high = sorted(rgb(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (a, b))
    return high / low


def distance(a, b):
    """CIE 1976: 2.3 is a just noticeable difference."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    roots = [np.cbrt(np.array(to_xyz) @ rgb(colour) / [0.9505, 1, 1.089]) for colour in (a, b)]
    first, second = ((116 * y, 500 * (x - y), 200 * (y - z)) for x, y, z in roots)
    return float(np.linalg.norm(np.subtract(first, second)))


def test_errors_that_are_not_over_images_are_not_drawn(tmp_path):
    """Tables made before there were groups tell the spread over repeats, several times too small."""
    for kind in ("csv", "json"):
        shutil.copy(SAVED / f"tiny_imagenet/cka/vit.{kind}", tmp_path)
    old = read_table(tmp_path / "vit.csv")
    new = read_table(SAVED / "tiny_imagenet/cka/vit.csv")
    assert old.cka_se.notna().any()
    assert "hconcat" not in analyses.chart(old).to_dict()
    assert [p["encoding"]["color"]["field"] for p in analyses.chart(new).to_dict()["hconcat"]] == ["cka", "cka_se"]


def test_lines_have_bands_where_the_table_has_bounds():
    table = pd.DataFrame(
        {"model": "m", "depth": [0, 1], "layer": ["a", "b"], "accuracy": [0.1, 0.2], "lo": [0, 0.1], "hi": [0.2, 0.3]}
    )
    kinds = [
        layer["mark"]["type"] for layer in marks.depth_lines(table, "accuracy", low="lo", high="hi").to_dict()["layer"]
    ]
    assert kinds == ["area", "line", "point", "text"]


def test_small_maps_keep_their_panels_apart():
    rows = [("b", 0, 0, 1.0), ("b", 0, 1, 2.0), ("a", 0, 0, 30.0), ("a", 0, 1, 10.0)]
    table = pd.DataFrame(rows, columns=["layer", "row", "col", "gradient"])
    spec = marks.small_maps(table, "gradient").to_dict()
    (rows,) = spec["datasets"].values() if "datasets" in spec else [spec["spec"]["data"]["values"]]
    assert [row["layer"] for row in rows] == ["b", "a"]
    assert spec["resolve"]["scale"]["color"] == "independent"
