"""Maps of single images: NumPy on the model's own attention, and pictures that reach the page."""

import base64

import numpy as np
import pytest
import tensorflow as tf

from tests import toys
from tf_vitcnn.analyses import read_table
from tf_vitcnn.analyses.attention_maps.analysis import rollout, shrunk
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput
from tf_vitcnn.report.collect import collect
from tf_vitcnn.report.page import page
from tf_vitcnn.tables.write import write_table


@pytest.fixture(scope="module")
def table():
    return run("attention_maps", toys.shared("vit"), "digits:test", images=3, heads=(1,))


@pytest.fixture(scope="module")
def probs():
    subject = toys.shared("vit")
    taps = [tap for tap in subject.taps if tap.endswith("attn/probs")]
    found = subject.expose(taps)(toys.images_of(subject, "digits:test", 3))
    return {tap: found[tap].numpy().astype(float) for tap in taps}


def test_maps_are_the_class_tokens_attention(table, probs):
    assert set(table["head"]) == {"mean", "01", "rollout", "norm"}
    for tap, attention in probs.items():
        for head, expected in (("mean", attention[:, :, 0, 1:].mean(1)), ("01", attention[:, 1, 0, 1:])):
            rows = table[(table.layer == tap) & (table["head"] == head)].sort_values(["image", "row", "col"])
            np.testing.assert_allclose(rows.attention.to_numpy().reshape(3, 6), expected, rtol=1e-4)


def test_rollout_is_the_product_of_half_attention_half_identity(table, probs):
    through = np.eye(7)
    for attention in probs.values():
        through = (0.5 * attention.mean(1) + 0.5 * np.eye(7)) @ through
    rows = table[table["head"] == "rollout"].sort_values(["image", "row", "col"])
    np.testing.assert_allclose(rows.attention.to_numpy().reshape(3, 6), through[:, 0, 1:], rtol=1e-4)
    np.testing.assert_allclose(rollout(list(probs.values())).numpy().sum(-1), 1, rtol=1e-5)


def test_norms_are_those_of_the_blocks_tokens_over_their_median(table):
    subject = toys.shared("vit")
    taps = [tap for tap in subject.taps if tap.endswith("resid/post")]
    found = subject.expose(taps)(toys.images_of(subject, "digits:test", 3))
    for tap in taps:
        norm = np.linalg.norm(found[tap].numpy()[:, 1:], axis=-1)
        rows = table[table.layer == tap].sort_values(["image", "row", "col"])
        assert set(rows["head"]) == {"norm"} and rows.attention.isna().all()
        expected = norm / np.median(norm, axis=1, keepdims=True)
        np.testing.assert_allclose(rows.norm.to_numpy().reshape(3, 6), expected, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 24), (31, 7), (96, 80)])
def test_a_smaller_photograph_is_means_over_areas(size):
    images = np.random.default_rng(0).normal(size=(2, 96, 80, 3)).astype("float32")
    np.testing.assert_allclose(shrunk(images, size), tf.image.resize(images, size, "area"), atol=1e-5)


def test_photographs_stand_beside_the_table_and_on_the_page(table, tmp_path):
    write_table(tmp_path / "attention_maps/toy", table, table.attrs["sidecar"])
    files = sorted((tmp_path / "attention_maps").glob("toy.image*.png"))
    assert [file.name for file in files] == [f"toy.image0{i}.png" for i in range(3)]
    assert all(file.stat().st_size < 40_000 for file in files)
    again = read_table(tmp_path / "attention_maps/toy.csv")
    assert dict(again.attrs["pictures"]) == {f"{i:02d}": file.read_bytes() for i, file in enumerate(files)}
    report = collect(tmp_path)
    attention, norms = report.figures
    for figure in (attention, norms):
        assert [panel.title for panel in figure.panels] == [f"toy_vit, image {i}" for i in range(3)]
        layers = [panel.spec["spec"]["layer"] for panel in figure.panels]
        assert all(layer[0]["mark"]["url"].startswith("data:image/png;base64,") for layer in layers)
    assert "Where it attends in single images" in page(report)


@pytest.mark.parametrize("name, more", [("receptive_field", {"channels": 2}), ("localization", {"batch": 12})])
def test_maps_of_other_analyses_lie_over_such_photographs(name, more, table, tmp_path):
    maps = run(name, toys.shared("vit"), "digits:test", images=24, **more)
    write_table(tmp_path / f"{name}/toy", maps, maps.attrs["sidecar"])
    over = lambda: [f for f in collect(tmp_path).figures if "over a photograph" in f.title]  # noqa: E731
    assert over() == []
    write_table(tmp_path / "attention_maps/toy", table, table.attrs["sidecar"])
    (figure,) = over()
    assert figure.analysis == name
    url = figure.panels[0].spec["spec"]["layer"][0]["mark"]["url"]
    assert url == "data:image/png;base64," + base64.b64encode(table.attrs["pictures"]["00"]).decode()


@pytest.mark.parametrize("more, said", [({"heads": (4,)}, "has 4 heads"), ({"images": 101}, "at most 100")])
def test_what_cannot_be_shown_is_refused(more, said):
    with pytest.raises(BadInput, match=said):
        run("attention_maps", toys.shared("vit"), "digits:test", **{"images": 2, **more})


def test_a_network_without_attention_is_refused():
    with pytest.raises(BadInput, match="attention_maps needs a ViT"):
        run("attention_maps", toys.shared("resnet"), "digits:test", images=2)
