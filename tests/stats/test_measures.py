"""Each measure against the library that people know it from, in its limits, and at chance."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group, spearmanr
from sklearn.neighbors import NearestNeighbors

from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import MinibatchCKA, measures, shares

N = 60


def gram(*representations):
    return tf.constant(np.stack([x @ x.T for x in representations]), tf.float32)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 30))
    y = np.tanh(x @ rng.normal(size=(30, 40)) * 0.2) + 0.5 * rng.normal(size=(N, 40))
    return x - x.mean(0), y - y.mean(0)


def rsa(x, y):
    a, b = measures.ranks(gram(x, y)).numpy().reshape(2, -1)
    return a @ b / np.sqrt(a @ a * (b @ b))


def knn(x, y, count=10):
    a, b = measures.neighbours(gram(x, y), count).numpy()
    return measures.beyond_chance((a * b).sum() / (N * count), N, count)


def procrustes(x, y):
    a, b = measures.roots(gram(x, y)).numpy()[:, None]
    return float(measures.procrustes(measures.overlap(a, b).numpy())[0, 0])


ALL = {"rsa": rsa, "knn": knn, "procrustes": procrustes}


def test_rsa_is_scipy_s_spearman_of_the_distances(pair):
    assert rsa(*pair) == pytest.approx(spearmanr(*(pdist(x) for x in pair)).statistic, abs=1e-5)


def test_tied_distances_share_their_rank():
    x = np.eye(6)[np.repeat(np.arange(3), 2)]  # three pairs of equal examples: distances 0 and sqrt 2 only
    y = np.random.default_rng(1).normal(size=(6, 4))
    wanted = spearmanr(pdist(x), pdist(y)).statistic
    a, b = measures.ranks(gram(x, y)).numpy().reshape(2, -1)
    assert a @ b / np.sqrt(a @ a * (b @ b)) == pytest.approx(wanted, abs=1e-6)


def test_shared_neighbours_are_those_of_scikit_learn(pair):
    lists = [NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False) for x in pair]
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*lists, strict=True)])
    assert knn(*pair) == pytest.approx((shared - 10 / 59) / (1 - 10 / 59), abs=1e-6)


@pytest.mark.parametrize("rank", [30, 3])
def test_procrustes_is_scipy_s(pair, rank):
    x, y = pair
    x = np.pad(x[:, :rank], [(0, 0), (0, 40 - rank)])
    _, _, disparity = scipy_procrustes(x, y)  # 1 - |XᵀY|_*²
    wanted = 1 - 2 / np.pi * np.arccos(np.sqrt(1 - disparity))
    assert procrustes(x, y) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_rotated_scaled_shifted_copy_is_the_same(pair, name):
    x = pair[0]
    moved = 7.0 * x @ ortho_group.rvs(30, random_state=0)
    assert ALL[name](x, moved) == pytest.approx(1, abs=2e-4 if name == "procrustes" else 1e-5)


def test_overlaps_of_a_stack_with_itself_are_those_of_two_stacks(pair):
    x = measures.roots(gram(pair[0], pair[1], pair[0] ** 2))
    np.testing.assert_allclose(measures.overlap(x), measures.overlap(x, tf.identity(x)), atol=1e-6)


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("room", [2**22, 1], ids=["at once", "row by row"])
def test_shares_of_whole_matrices_are_their_rows_and_columns_products_by_group(n, room, monkeypatch):
    monkeypatch.setattr(shares, "ROOM", room)
    monkeypatch.setattr(shares, "LEAST", min(room, 16))
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(2, 3, n, n)).astype(np.float32)
    group = np.arange(n) % 20
    found = shares.shares([x.reshape(3, -1)], [y.reshape(3, -1)], n, tf.constant(group, tf.int32), flat=True)
    both = np.einsum("aij,bij->iab", x, y) + np.einsum("aij,bij->jab", x, y)
    np.testing.assert_allclose(found["xy"].numpy()[:n], both / 2 * (n - 2) / ((n - 1) * (n - 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["rsa", "knn"])
def test_unrelated_gaussians_are_at_chance(name):
    rng = np.random.default_rng(3)
    found = [ALL[name](rng.normal(size=(N, 20)), rng.normal(size=(N, 20))) for _ in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(40)


def test_the_metric_has_each_measure_from_the_same_grams(pair):
    metric = MinibatchCKA(measures=("cka", "rsa", "knn"))
    metric.update_state(list(pair))
    plain = MinibatchCKA()
    plain.update_state(list(pair))
    np.testing.assert_array_equal(metric.result(), plain.result())
    for name in ("rsa", "knn"):
        value, error = metric.result(errors=True, measure=name)
        assert float(value[0, 1]) == pytest.approx(ALL[name](*pair), abs=1e-5)
        np.testing.assert_allclose(np.diag(value), 1, atol=1e-5)
        assert float(error[0, 1]) > 0
    crossed = MinibatchCKA(measures=("knn",))
    crossed.update_state([pair[0]], [pair[1]])
    assert float(crossed.result()[0, 0]) == pytest.approx(knn(*pair), abs=1e-5)


def test_the_metric_refuses_measures_that_it_does_not_know(pair):
    with pytest.raises(BadInput, match="unknown measure 'rsb'"):
        MinibatchCKA(measures=("rsb",))
    metric = MinibatchCKA()
    metric.update_state(list(pair))
    with pytest.raises(BadInput, match="unknown measure of this metric 'rsa'"):
        metric.result(measure="rsa")
