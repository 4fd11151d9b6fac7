"""Planted outliers are found, and every number equals NumPy's on the network's own activations."""

import keras
import numpy as np
import pandas as pd
import pytest

from tests import toys
from tf_vitcnn.analyses.tokens.claims import outliers_draw_attention, outliers_in_late_layers
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput
from tf_vitcnn.subject import Subject
from tf_vitcnn.verdicts.evidence import Result

IMAGES = 43
PLACE = (1, 2)  # of the planted token on a grid of 2 x 3


@pytest.fixture(scope="module")
def table():
    return run("tokens", toys.shared("vit"), "digits:test", images=IMAGES)


def values(table, layer):
    return table[table.layer == layer].set_index("statistic").value


def activations(subject, tap):
    return subject.expose([tap])(toys.images_of(subject, "digits:test", IMAGES))[tap].numpy()


@pytest.mark.parametrize("tap", ["block00/mlp/out", "block01/resid/post"])
def test_equals_numpy_on_the_activations(table, tap):
    x = activations(toys.shared("vit"), tap)
    norms, found = np.linalg.norm(x, axis=-1), values(table, tap)
    for percent in (0, 1, 10, 50, 90, 99, 100):
        assert found[f"q{percent:02d}"] == pytest.approx(np.quantile(norms[:, 1:], percent / 100), rel=1e-5)
        assert found[f"cls_q{percent:02d}"] == pytest.approx(np.quantile(norms[:, 0], percent / 100), rel=1e-5)
    unit = (x / norms[..., None])[:, 1:].reshape(IMAGES, 2, 3, -1)
    right = (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1)
    down = (unit[:, 1:] * unit[:, :-1]).sum(-1)
    wanted = np.concatenate([right.ravel(), down.ravel()]).mean()
    assert found["neighbour_cosine"] == pytest.approx(wanted, abs=1e-6)
    far = norms[:, 1:] > 3 * np.median(norms[:, 1:])
    assert found["outlier_share"] == pytest.approx(far.mean(), abs=1e-7)


def test_errors_are_those_of_deleting_each_group_in_turn(table):
    norms = np.linalg.norm(activations(toys.shared("vit"), "block01/resid/post"), axis=-1)[:, 1:]
    group = np.arange(IMAGES) % 20
    without = np.array([np.quantile(norms[group != g], 0.9) for g in range(20)])
    at = table[(table.layer == "block01/resid/post") & (table.statistic == "q90")].index[0]
    changes = table.attrs["groups"]["value"][:, at]
    np.testing.assert_allclose(changes, without - np.quantile(norms, 0.9), atol=1e-5)
    assert table.value_se[at] == pytest.approx(np.sqrt(19 / 20 * ((without - without.mean()) ** 2).sum()), rel=1e-3)


def planted(factor=10.0):
    """One block on a grid of 2 x 3 whose token at PLACE is `factor` times as long in every image."""
    images = keras.Input((16, 24, 3))
    x = keras.layers.Reshape((6, 4))(keras.layers.Conv2D(4, 8, 8, bias_initializer="ones")(images))
    x = keras.layers.ZeroPadding1D((1, 0))(x)  # a class token without a norm
    scale = np.ones((1, 7, 1), np.float32)
    scale[0, 1 + PLACE[0] * 3 + PLACE[1]] = factor
    post = keras.layers.Multiply(name="block00.resid.post")([x, keras.ops.convert_to_tensor(scale)])
    scores = np.zeros((1, 1, 7, 7), np.float32)
    scores[..., 1 + PLACE[0] * 3 + PLACE[1]] = np.log(4)  # every query looks there with 4 of 10
    flat = keras.layers.Dense(49, kernel_initializer="zeros", use_bias=False)(keras.layers.Flatten()(x))
    probs = keras.layers.Softmax(name="block00.attn.probs")(keras.layers.Reshape((1, 7, 7))(flat) + scores)
    model = keras.Model(images, {"block00/attn/probs": probs, "block00/resid/post": post})
    record = {"family": "vit", "patch_size": 8, "random": True, "pool": "cls", "no_skip": []}
    return Subject("planted", model, Preprocessing((16, 24)), record)


def test_planted_outliers_are_found_at_their_place_with_their_share():
    found = values(run("tokens", planted(), "noise:16", images=20), "block00/resid/post")
    assert found["outlier_share"] == pytest.approx(1 / 6)
    assert found["outlier_attention"] == pytest.approx(0.4, rel=1e-5)
    places = {name: share for name, share in found.items() if name.startswith("outlier_at_")}
    assert {name for name, share in places.items() if share} == {f"outlier_at_r{PLACE[0]:02d}_c{PLACE[1]:02d}"}
    assert len(places) == 6 and max(places.values()) == 1


def test_an_absolute_cut_takes_the_place_of_the_median():
    found = values(run("tokens", planted(), "noise:16", images=20, cut=1e6), "block00/resid/post")
    assert found["outlier_cut"] == 1e6 and found["outlier_share"] == 0


def test_claims_follow_the_planted_outliers():
    table = run("tokens", planted(), "noise:16", images=20)
    result = Result(table, table.attrs["sidecar"])
    assert outliers_in_late_layers(result).margin > 0 and outliers_draw_attention(result).margin > 0
    plain = run("tokens", planted(factor=1.0), "noise:16", images=20)
    assert not outliers_in_late_layers(Result(plain, plain.attrs["sidecar"])).margin > 0


@pytest.mark.parametrize("batch", [4, 43])
def test_the_micro_batch_does_not_matter(table, batch):
    again = run("tokens", toys.shared("vit"), "digits:test", images=IMAGES, batch=batch)
    # a norm at the edge of a bin may step over it by its rounding
    one, other = (t[~t.statistic.str.startswith("histogram")] for t in (again, table))
    pd.testing.assert_frame_equal(one.drop(columns="value_se"), other.drop(columns="value_se"), rtol=1e-5)
    np.testing.assert_allclose(one.value_se, other.value_se, rtol=1e-3, atol=1e-6)


def test_a_network_without_tokens_is_refused_in_one_line():
    with pytest.raises(BadInput, match="has no tokens on a grid"):
        run("tokens", toys.shared("resnet"), "digits:test", images=2)
