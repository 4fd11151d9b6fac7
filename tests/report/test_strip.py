"""The images that a similarity rests on: thumbnails beside their table and on the page, where they are at hand."""

import shlex

import pytest
import tensorflow as tf

from tests import toys
from tf_vitcnn import run
from tf_vitcnn.analyses.cka import images
from tf_vitcnn.data.sources import open_source
from tf_vitcnn.report.collect import collect
from tf_vitcnn.report.made import made
from tf_vitcnn.report.page import page
from tf_vitcnn.tables.write import write_table

PAIRS = ("block00/resid/post:block01/resid/post", "stem/embed:block01/resid/post")
TITLE = "The images that a similarity rests on"


@pytest.fixture(scope="module")
def tables():
    vit = toys.shared("vit")
    taps = list(dict.fromkeys(":".join(PAIRS).split(":")))
    table = run(
        "cka", vit, "digits:test", taps=taps, images=24, batch=12, repeats=1, images_that_count=3, of=PAIRS, seed=4
    )
    return table, table.attrs.pop("beside")["cka_images"]


@pytest.fixture
def results(tables, tmp_path):
    for table, name in zip(tables, ("cka", "cka_images"), strict=True):
        write_table(tmp_path / name / "toy_vit", table, table.attrs["sidecar"])
    return tmp_path


def test_a_thumbnail_of_each_image_stands_beside_the_table(tables, results):
    listed = set(map(int, tables[1].image))
    files = {int(f.name.split(".image")[1].split(".")[0]): f for f in (results / "cka_images").glob("*.png")}
    assert set(files) == listed
    source = open_source("digits:test")
    for i, file in files.items():  # eight pixels: as they are
        tf.debugging.assert_equal(tf.io.decode_png(file.read_bytes()), source.load(i)[0])


def test_a_thumbnail_is_small():
    photograph = tf.cast(tf.random.stateless_uniform([300, 200, 3], [0, 0], 0, 256, tf.int32), tf.uint8)
    made_small = images._thumbnail(photograph)
    assert tf.io.decode_png(made_small).shape == (64, 43, 3)
    assert len(made_small) < 20_000


def test_the_page_has_a_strip_for_each_pair(tables, results):
    report = collect(results)
    assert not report.problems
    (figure,) = (f for f in report.figures if f.drawing.title == TITLE)
    assert [panel.title for panel in figure.panels] == [f"toy_vit, {p.replace(':', ' and ')}" for p in PAIRS]
    table = tables[1]
    for pair, panel in zip(PAIRS, figure.panels, strict=True):
        (rows,) = panel.spec["datasets"].values()
        x, y = pair.split(":")
        mine = table[(table.layer_x == x) & (table.layer_y == y)]
        assert [row["image"] for row in rows] == list(mine.image) and len(rows) == 3
        assert all(row["picture"].startswith("data:image/png;base64,") for row in rows)
    (told,) = made(figure)
    assert shlex.split(told.command)[:3] == ["tf-vitcnn", "analyze", "cka"]
    assert "--images-that-count 3" in told.command
    assert TITLE in page(report)


def test_without_thumbnails_there_is_no_strip(results):
    for file in (results / "cka_images").glob("*.png"):
        file.unlink()
    report = collect(results)
    assert not report.problems
    assert TITLE not in [f.drawing.title for f in report.figures]
    assert len(report.results) == 1


def test_other_charts_do_not_take_the_thumbnails_for_photographs(tables, results):
    from tf_vitcnn.report.figures import with_photographs

    report = collect(results)
    pictured = {r.sidecar["analysis"] for r in with_photographs(report.results) if r.pictures}
    assert pictured == {"cka_images"}
