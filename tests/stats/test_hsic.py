"""CKA against an independent float64 implementation that follows the textbook formula, not ours."""

import numpy as np
import pytest
import tensorflow as tf

from tests.stats.test_pair_noise import variance_once
from tests.stats.test_shares import of_images
from tf_vitcnn.devices import cores
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import MinibatchCKA, host_gram, hsic


def hsic1(x, y):
    """Song et al. (2012), eq. 5, with traces, in float64."""
    x, y = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (x, y))
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    return (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    ) / (n * (n - 3))


def reference(batches):
    size = len(batches[0])
    h = sum(np.array([[hsic1(a, b) for b in batch] for a in batch]) for batch in batches)
    d = np.array([h[i, i] for i in range(size)])
    return h / np.sqrt(np.outer(d, d))


def layers(n, p, offset, seed=0, count=3):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 5))
    return [
        (shared @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)) + offset).astype(np.float32) for _ in range(count)
    ]


@pytest.mark.parametrize("offset", [0, 10, 100, 1000])
@pytest.mark.parametrize(("n", "p"), [(8, 1), (8, 7), (33, 1000), (8, 200_000), (300, 64)])
def test_float32_agrees_whatever_the_offset(n, p, offset):
    batch = layers(n, p, offset)
    metric = MinibatchCKA()
    metric.update_state(batch)
    np.testing.assert_allclose(metric.result(), reference([batch]), atol=1e-5)


@pytest.mark.parametrize("offset", [0, 1000])
def test_four_examples(offset):
    batch = layers(4, 50, offset)
    metric = MinibatchCKA()
    metric.update_state(batch)
    np.testing.assert_allclose(metric.result(), reference([batch]), atol=1e-4)


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize(("n", "p"), [(32, 300), (32, 100_000), (200, 50)])
@pytest.mark.parametrize("units", [False, True], ids=["without units", "with units"])
def test_bfloat16(n, p, offset, units, monkeypatch):
    monkeypatch.setattr(cores, "bfloat16_units", lambda: units)
    batch = layers(n, p, offset)
    metric = MinibatchCKA(precision="bfloat16")
    metric.update_state(batch)
    np.testing.assert_allclose(metric.result(), reference([batch]), atol=2e-3)


def test_minibatches_give_the_ratio_of_averages():
    batches = [layers(12, 6, 3, seed) for seed in range(3)]
    metric = MinibatchCKA()
    for batch in batches:
        metric.update_state(batch)
    expected = reference(batches)
    np.testing.assert_allclose(metric.result(), expected, atol=1e-5)
    assert np.abs(np.mean([reference([b]) for b in batches], 0) - expected).max() > 1e-3
    metric.reset_state()
    metric.update_state(batches[0])
    np.testing.assert_allclose(metric.result(), reference(batches[:1]), atol=1e-5)


def test_errors_of_minibatches_equal_the_influences_of_groups_of_examples():
    sides = [[layers(n, 6, 3, seed), layers(n, 5, 3, seed + 50, count=2)] for seed, n in enumerate((25, 25, 25))]
    for two in (False, True):
        metric = MinibatchCKA()
        for xs, ys in sides:
            metric.update_state(xs, ys) if two else metric.update_state(xs)
        value, error = metric.result(errors=True)
        np.testing.assert_array_equal(value, metric.result())
        expected = np.array(
            [[_error([(xs[i], (ys if two else xs)[j]) for xs, ys in sides]) for j in range(2)] for i in range(3)]
        )
        np.testing.assert_allclose(error[:, :2], expected, rtol=1e-3, atol=1e-6)


def _error(pairs):
    """sqrt(sum m_g² / (20 * 19)) of a pair of layers in several minibatches, example by example, less pairs' noise."""
    q = [
        np.concatenate([of_images(*p) for p in each])
        for each in (pairs, [(x, x) for x, _ in pairs], [(y, y) for _, y in pairs])
    ]
    h = [np.mean([hsic1(*p) for p in each]) for each in (pairs, [(x, x) for x, _ in pairs], [(y, y) for _, y in pairs])]
    influence = 2 * h[0] / np.sqrt(h[1] * h[2]) * (q[0] / h[0] - q[1] / h[1] / 2 - q[2] / h[2] / 2)
    m = np.array([influence[np.arange(len(influence)) % 20 == g].mean() for g in range(20)])
    n, images = len(pairs[0][0]), len(influence)
    twice = np.sum((m - m.mean()) ** 2) / (20 * 19)
    return np.sqrt(variance_once(twice, pairs, h, (2 / (images * (n - 1)), images)))


def test_other_numbers_of_layers_in_one_process():
    x = np.random.default_rng(0).normal(size=(12, 9)).astype("float32")
    for count in (2, 3, 5):
        metric = MinibatchCKA()
        metric.update_state([x] * count)
        np.testing.assert_allclose(metric.result(), np.ones((count, count)), atol=1e-5)


def test_constant_layers_have_none_and_duplicates_are_one():
    x, y, _ = layers(16, 40, 10)
    metric = MinibatchCKA()
    metric.update_state([x, np.full((16, 9), 3.3, np.float32), x, y])
    result = np.asarray(metric.result())
    assert np.isnan(result[1]).all() and np.isnan(result[:, 1]).all()
    assert result[0, 2] == pytest.approx(1, abs=1e-6)
    assert np.isfinite(np.delete(np.delete(result, 1, 0), 1, 1)).all()


def test_invariances():
    x, y, _ = layers(40, 30, 2)
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(30, 30)))[0].astype(np.float32)
    metric = MinibatchCKA()
    metric.update_state([x, x @ turn, 1e4 * x, x + 50, x[:, rng.permutation(30)]], [y])
    result = np.asarray(metric.result())[:, 0]
    np.testing.assert_allclose(result, result[0], atol=1e-5)


def test_unbiased_on_independent_features_where_the_biased_estimator_is_not():
    unbiased, biased = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = (tf.constant(rng.normal(size=(1, 20, 50)), tf.float32) for _ in range(2))
        for kind, centre in ((unbiased, hsic.u_centre), (biased, hsic.double_centre)):
            a, b = (hsic.fold(centre(hsic.gram([z])))[0].numpy().astype(np.float64) for z in (x, y))
            kind.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    error = np.std(unbiased) / np.sqrt(60)
    assert abs(np.mean(unbiased)) < 3 * error
    assert np.mean(biased) > 20 * error


@pytest.mark.parametrize("n", [4, 7, 10])
def test_folding_keeps_inner_products(n):
    rng = np.random.default_rng(n)
    a, b = (m + m.T for m in rng.normal(size=(2, n, n)))
    folded = [hsic.fold(tf.constant(m[None], tf.float32))[0].numpy() for m in (a, b)]
    assert folded[0] @ folded[1] == pytest.approx(np.sum(a * b), rel=1e-5)


def test_chunks_do_not_matter():
    x = tf.random.stateless_normal([2, 30, 11], seed=[1, 2])
    whole = hsic.gram([x])
    pieces = hsic.gram([x[:, :7], x[:, 7:14], x[:, 14:28], x[:, 28:]])
    np.testing.assert_allclose(whole, pieces, atol=1e-5)


def test_too_few_or_unequal_examples_are_refused():
    metric = MinibatchCKA()
    with pytest.raises(BadInput, match="n >= 4"):
        metric.update_state([np.zeros((3, 2), np.float32)])
    with pytest.raises(BadInput, match="same n"):
        metric.update_state([np.zeros((5, 2), np.float32), np.zeros((6, 2), np.float32)])
    with pytest.raises(BadInput, match="float16"):
        MinibatchCKA(precision="float16")
    layer = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    metric.update_state([layer, layer], [layer])
    with pytest.raises(BadInput, match=r"has 1 \+ 2 layers, the first one had 2 \+ 1"):
        metric.update_state([layer], [layer, layer])


@pytest.mark.parametrize(("n", "p"), [(4, 1), (64, 3), (65, 9001), (300, 70), (300, 9001), (1024, 2500)])
def test_host_gram_is_the_centred_product_of_its_chunks(n, p):
    x = layers(n, p, 1000, count=1)[0]
    chunks = np.split(x, range(128, n, 128))
    with cores.at_work() as pool:
        (gram, offset), (again, _) = host_gram.grams([chunks, chunks], pool, cores.count())
    exact = x.astype(np.float64)
    mean = exact.mean(0)
    expected = (exact - mean) @ (exact - mean).T
    np.testing.assert_allclose(gram, expected, atol=2e-4 * expected.diagonal().max())
    assert offset == pytest.approx(mean @ mean, rel=1e-4)
    assert np.array_equal(gram, again)
    # bfloat16 as the upper half of each number: the same as of the numbers cut there
    cut = [(chunk.view(np.uint32) >> 16).astype(np.uint16) for chunk in chunks]
    whole = [(bits.astype(np.uint32) << 16).view(np.float32) for bits in cut]
    with cores.at_work() as pool:
        (narrow, _), (wide, _) = host_gram.grams([cut, whole], pool, cores.count())
    assert np.array_equal(narrow, wide)


@pytest.mark.parametrize("square", [1e-12, 3e-3, 0.5, 1.0, 7.0, 4e9])
def test_scales_bring_features_near_one_by_a_power_of_two(square):
    scale = float(hsic.power_of_two(square))
    assert np.log2(scale) == round(np.log2(scale))
    assert 0.7 <= scale * np.sqrt(square) <= 1.42


@pytest.mark.parametrize("square", [0.0, np.inf, np.nan])
def test_features_of_no_size_keep_their_scale(square):
    assert float(hsic.power_of_two(square)) == 1.0


def test_a_layer_whose_own_hsic_is_not_positive_has_no_cka():
    found = hsic.cka(np.full((2, 2), 1e-3), np.array([0.0, 4.0]), np.array([-1e-9, 1.0]))
    assert np.isnan(found[0]).all()
    assert np.isnan(found[1, 0])
    assert found[1, 1] == pytest.approx(5e-4)


def test_constant_layers_are_told_by_what_centring_leaves():
    norms = np.array([[0.0, 0.0, hsic.CONSTANT**2 * 4.0, 1e-3], [0.0, 4.0, 4.0, 4.0]])
    assert list(hsic.constant(norms)) == [True, True, True, False]
