"""similarity against SciPy and scikit-learn on the network's own activations, and as one pass with cka."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from tests import toys
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.analyses.similarity.analysis import Similarity
from tf_vitcnn.engine.door import run
from tf_vitcnn.engine.execute import tables
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import measures
from tf_vitcnn.walk.gram_sums import GramSums

IMAGES = 40
TAPS = ["block0[01]/resid/post", "block01/mlp/act"]


@pytest.fixture(scope="module")
def table():
    return run("similarity", toys.shared("vit"), "digits:test", images=IMAGES, batch=IMAGES, taps=TAPS)


@pytest.fixture(scope="module")
def features(table):
    subject = toys.shared("vit")
    taps = list(dict.fromkeys(table.layer_x))
    found = subject.expose(taps)(toys.images_of(subject, "digits:test", IMAGES))
    return {tap: np.asarray(found[tap], float).reshape(IMAGES, -1) for tap in taps}


def pairs(table):
    for row in table.itertuples():
        yield row, row.layer_x, row.layer_y


def test_rsa_is_scipy_s(table, features):
    for row, x, y in pairs(table):
        wanted = spearmanr(pdist(features[x]), pdist(features[y])).statistic
        assert row.rsa == pytest.approx(wanted, abs=1e-5)


def test_knn_is_scikit_learn_s(table, features):
    near = {
        tap: NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False) for tap, x in features.items()
    }
    for row, x, y in pairs(table):
        shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near[x], near[y], strict=True)])
        assert row.knn == pytest.approx((shared - 10 / 39) / (1 - 10 / 39), abs=1e-5)


def test_procrustes_is_scipy_s_for_the_outputs_of_blocks(table, features):
    for row, x, y in pairs(table):
        if not (x.endswith("resid/post") and y.endswith("resid/post")):
            assert np.isnan(row.procrustes)
        elif x != y:
            _, _, disparity = scipy_procrustes(features[x], features[y])
            wanted = 1 - 2 / np.pi * np.arccos(np.sqrt(1 - disparity))
            assert row.procrustes == pytest.approx(wanted, abs=1e-4)


def test_cka_is_that_of_cka(table):
    other = run("cka", toys.shared("vit"), "digits:test", images=IMAGES, batch=IMAGES, repeats=1, taps=TAPS)
    pd.testing.assert_frame_equal(table[list(other.columns)], other, rtol=1e-5)


def test_two_models_are_compared_across(table):
    both = run("similarity", toys.shared("vit"), "digits:test", toys.shared("resnet"), images=24, batch=12)
    assert both.model_y.unique() == ["toy_resnet"]
    assert both[["cka", "rsa", "knn"]].notna().to_numpy().mean() > 0.9


def test_every_measure_has_an_error_and_the_groups_behind_it(table):
    off = table[table.layer_x != table.layer_y]
    for name in ("cka", "rsa", "knn"):
        assert (off[f"{name}_se"] > 0).all()
        assert table.attrs["groups"][name].shape == (20, len(table))


def test_too_few_images_for_neighbours_are_refused():
    assert Similarity.least == measures.NEIGHBOURS + 2
    with pytest.raises(BadInput, match="similarity needs at least 12 in each"):
        run("similarity", toys.shared("vit"), "digits:test", images=8, batch=8)


def test_together_with_cka_the_grams_are_made_once_and_the_tables_are_those_of_runs_apart(monkeypatch):
    made = []
    add = GramSums.add
    monkeypatch.setattr(GramSums, "add", lambda sums, i, *more: (made.append(i), add(sums, i, *more))[1])
    setting = {"images": 24, "batch": 12, "taps": ("block0[01]/resid/post",)}
    analyses = (CKA(repeats=1), Similarity())
    with Session(Request(analyses, "digits:test", **setting, quiet=True), toys.shared("vit"), None) as session:
        both = tables(session)
    assert len(made) == 2 * 2  # two taps, two minibatches
    for analysis, table in zip(analyses, both, strict=True):
        alone = run(analysis, toys.shared("vit"), "digits:test", **setting)
        pd.testing.assert_frame_equal(table, alone, rtol=1e-5)


def test_a_network_without_blocks_has_no_procrustes():
    import keras

    images = keras.Input((16, 16, 3))
    hidden = keras.layers.Conv2D(4, 3, 2, activation="relu")(images)
    plain = keras.Model(images, keras.layers.GlobalAveragePooling2D()(hidden))
    table = run("similarity", toys.shared("vit"), "digits:test", against=plain, images=24, batch=24, repeats=1)
    assert table.cka.notna().any() and table.procrustes.isna().all()
