"""Networks that are not ours, from a model to the page: verdicts are judged, charts drawn, no number is made of NaN."""

import warnings

import keras
import pytest

from tests import users
from tests.charts.test_drawn import undrawn
from tf_vitcnn import analyses, load, run, write_table
from tf_vitcnn.report.collect import collect

L = keras.layers
SETTINGS = {
    "cka": {"images": 24, "batch": 12, "repeats": 1},
    "skip_ratio": {"images": 24},
    "receptive_field": {"images": 2, "channels": 2},
    "localization": {"images": 24, "batch": 12},
}
JUDGED = {"uniform-vit", "skip-stronger-in-vit", "phase-transition", "tokens-localized", "vit-low-larger"}


def inverted():
    """Depthwise branches, an activation after each addition: its layers keep their own names."""
    x = images = keras.Input((16, 24, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same")(x)
    for i in range(4):
        if i == 2:
            x = L.Conv2D(8, 3, strides=2, padding="same", name="down")(x)
        y = L.DepthwiseConv2D(3, padding="same")(L.Conv2D(12, 1, activation="swish")(x))
        x = L.ReLU(name=f"relu_{i}")(L.Add(name=f"add_{i}")([x, L.Conv2D(8, 1)(y)]))
    return users.seeded(keras.Model(images, L.Dense(3)(L.GlobalAveragePooling2D()(x)), name="inverted"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    subjects = [load(users.vit()), load(inverted())]
    for name, settings in SETTINGS.items():
        for subject in subjects:
            table = run(name, subject, "digits:test", **settings)
            write_table(folder / name / subject.name, table, table.attrs["sidecar"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return collect(folder)


def test_claims_about_them_are_judged(page):
    assert page.problems == []
    said = {}
    for verdict in page.verdicts:
        said.setdefault(verdict.claim.id, []).append(verdict)
    for name in JUDGED:
        assert {verdict.word for verdict in said[name]} <= {"holds", "fails", "undecided"}, said[name]
        assert "family" not in " ".join(verdict.note for verdict in said[name])


def test_what_is_missing_is_asked_for_by_its_own_name(page):
    (verdict,) = [v for v in page.verdicts if v.claim.id == "branch-shrinks-at-stages"]
    assert "--taps 'conv2d" in verdict.note and "branch/out" not in verdict.note


def test_their_figures_are_drawn_in_full(page):
    pytest.importorskip("vl_convert")
    results = [result for figure in page.figures for result in figure.results]
    drawn = {(result.sidecar["analysis"], result.subject["name"]) for result in results}
    assert drawn == {(name, subject) for name in SETTINGS for subject in ("users_vit", "inverted")}
    for result in page.results:
        assert undrawn(analyses.find(result.sidecar["analysis"]).chart(result.table)) == [], result.path
