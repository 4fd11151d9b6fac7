"""The noise of pairs: moments against NumPy, and what is taken out of an error against a variance that we know."""

import numpy as np
import pytest
import tensorflow as tf

from tests.stats.test_shares import features, u_centred
from tf_vitcnn.stats import folded, pair_noise
from tf_vitcnn.stats.resample import GROUPS, standard_error


def stack(side, n):  # in two blocks
    folds = [folded.grams([tf.constant(x[None], tf.float32)], n, 1.0, tf.zeros([1]), ["u"])[0]["u"] for x in side]
    return [folds[0], tf.concat(folds[1:], 0)]


def expected(a, b, n):
    """[3, la, lb] in float64."""
    ks, ls = ([u_centred(x - x.mean(0)) for x in side] for side in (a, b))
    found = [[[(k**p * m**q).sum() for m in ls] for k in ks] for p, q in ((2, 2), (3, 1), (1, 3))]
    return np.array(found) / (n * (n - 1)) * ((n - 1) / (n - 3)) ** 2


@pytest.mark.parametrize("n", [4, 7, 20, 33])
@pytest.mark.parametrize("room", [2**22, 100], ids=["at once", "in parts"])
@pytest.mark.parametrize("jit", [False, True], ids=["plain", "xla"])
def test_moments_equal_numpy(n, room, jit, monkeypatch):
    monkeypatch.setattr(pair_noise, "ROOM", room)
    if jit and n > 7:
        pytest.skip("the compiler takes its time")
    xs, ys = features(n, 3), features(n, 2, seed=1)
    x, y = stack(xs, n), stack(ys, n)

    def compute(others, wanted):
        return tf.function(lambda a, b: pair_noise.moments(a, b, n, frozenset(wanted)), jit_compile=jit)(x, others)

    def close(found, wanted):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())

    both = compute(y, {"xy", "xx", "yy"})
    close(both["xy"], expected(xs, ys, n))
    close(both["xx_full"], expected(xs, xs, n))
    close(both["yy_full"], expected(ys, ys, n))
    close(both["xx"], np.diag(expected(xs, xs, n)[0]))
    close(both["yy"], np.diag(expected(ys, ys, n)[0]))
    own = compute([], {"xy"})
    close(own["xy"], expected(xs, xs, n))
    close(own["xx"], both["xx"])
    pairs = compute(x, {"matching"})
    close(pairs["xy"], np.einsum("pii->pi", expected(xs, xs, n)))


def variance_once(twice, pairs, h, weights):
    """Of the groups' variance what is left when pairs count once: from the kernel itself, not from its moments.

    `pairs` of layers [n, p] in each minibatch, `h` their mean HSIC with each other and of each.
    """
    squares = []
    for x, y in pairs:
        n, (u, v) = len(x), (u_centred(np.float64(a) - np.mean(a, axis=0, dtype=np.float64)) for a in (x, y))
        kernel = (u * v - h[0] * (u**2 / h[1] + v**2 / h[2]) / 2) / np.sqrt(h[1] * h[2])
        # a draw's Gram is smaller than that of all images
        squares.append(np.sum((kernel * (n - 1) / (n - 3)) ** 2) / (n * (n - 1)))
    of_pair, often = weights
    noise = of_pair * (np.mean(squares) - often / 2 * twice) / (1 - of_pair * often)
    return np.clip(max(twice - noise, noise), 0, twice)


def drawn_mean(kernel, n, draws, each, rng):
    """The mean of a kernel over pairs in minibatches of n, `draws` draws of `each` of its images; the groups' changes,
    and its mean square."""
    images = len(kernel)
    met = np.zeros((images, images))
    for _ in range(draws):
        for chosen in rng.permutation(images)[:each].reshape(-1, n):
            met[np.ix_(chosen, chosen)] += 1
    np.fill_diagonal(met, 0)
    influence = 2 * (met * kernel).sum(1)
    group = np.arange(images) % GROUPS
    by_group = np.bincount(group, influence) / np.bincount(group, met.sum(1))
    return (met * kernel).sum() / met.sum(), -by_group / (GROUPS - 1), (met * kernel**2).sum() / met.sum()


@pytest.mark.parametrize(("draws", "each"), [(1, 80), (4, 80), (4, 56)])
def test_the_noise_of_pairs_is_counted_once(draws, each):
    """A kernel of known parts: c_ij = g_i + g_j + e_ij."""
    rng, n, images, sets = np.random.default_rng(draws + each), 8, 80, 1500
    values, once, twice = [], [], []
    for _ in range(sets):
        brought, pair = 0.45 * rng.normal(size=images), rng.normal(size=(images, images))
        kernel = brought[:, None] + brought + (pair + pair.T) / np.sqrt(2)
        value, changes, squares = drawn_mean(kernel, n, draws, each, rng)
        # CKA whose linear part is the first product alone: xx and yy far from zero and without moments, xy = 0
        none = np.zeros((1, 1))
        drawn = pair_noise.Drawn(draws * each / n, draws, draws * each, images)
        moments = np.array([squares, 0, 0])[:, None, None], none[0], none[0]
        right = pair_noise.counted_once(changes[:, None, None], (none, [1.0], [1.0]), moments, drawn)
        values.append(value)
        twice.append(standard_error(changes) ** 2)
        once.append(standard_error(right)[0, 0] ** 2)
    assert np.mean(once) == pytest.approx(np.var(values), rel=0.1)  # a variance of 1500 is known to 4 %
    meeting = each * (n - 1) / (images * (images - 1))
    noise = 2 * (1 + (draws - 1) * meeting) / (draws * each * (n - 1))
    assert np.mean(twice) - np.mean(once) == pytest.approx(noise, rel=0.1)


def test_what_rounding_leaves_of_layers_alike_is_no_noise():
    changes = 1e-4 * np.random.default_rng(0).normal(size=(GROUPS, 1, 1))
    for off in (-2e-6, 0.0, 2e-6):
        moments = np.full((3, 1, 1), 3.0) * (1 + off), np.full(1, 3.0), np.full(1, 3.0)
        one = np.ones((1, 1)), np.ones(1), np.ones(1)
        found = pair_noise.counted_once(changes, one, moments, pair_noise.Drawn(2, 1, 32, 32))
        np.testing.assert_array_equal(found, changes)


def test_layers_alike_have_no_noise_and_the_rest_keeps_its_sign():
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(GROUPS, 2, 2))
    changes[:, 0, 0] = 0
    moments = np.ones((3, 2, 2)), np.ones(2), np.ones(2)
    hsic_of = np.array([[1.0, 0.3], [0.3, np.nan]]), np.array([1.0, 1.0]), np.array([1.0, np.nan])
    found = pair_noise.counted_once(changes, hsic_of, moments, pair_noise.Drawn(8, 1, 128, 128))
    assert (found[:, 0, 0] == 0).all() and np.isnan(found[:, :, 1]).all()
    ratio = found[:, 1, 0] / changes[:, 1, 0]
    assert np.ptp(ratio) < 1e-12 and 0.7 < ratio[0] <= 1  # half of the variance at least stays


def test_squares_of_pairs_are_those_of_their_definition():
    rng = np.random.default_rng(5)
    u, v = rng.standard_t(6, 500), rng.standard_t(6, 500)
    xy, xx, yy = 0.3, 0.8, 1.5
    a, b, c = (xx * yy) ** -0.5, -0.5 * xy * (xx * yy) ** -0.5 / xx, -0.5 * xy * (xx * yy) ** -0.5 / yy
    moments = [np.array([(p * q).mean() for p, q in ((u**2, v**2), (u**3, v), (u, v**3))]).reshape(3, 1, 1)]
    moments += [np.array([(u**4).mean()]), np.array([(v**4).mean()])]
    drawn = pair_noise.Drawn(8, 2, 256, 400)
    changes = 0.02 * rng.standard_normal(20)
    found = pair_noise.counted_once(
        changes[:, None, None], (np.array([[xy]]), np.array([xx]), np.array([yy])), moments, drawn
    )
    squares = np.mean((a * u * v + b * u**2 + c * v**2) ** 2)
    of_pair, of_image = drawn.weights
    counted = standard_error(changes) ** 2
    # counted = V_1 + 2 V_2, squares = 2 var(g) + var(e) = of_image V_1 / 2 + V_2 / of_pair
    v_1, v_2 = np.linalg.solve([[1, 2], [of_image / 2, 1 / of_pair]], [counted, squares])
    assert 0 < v_2 < v_1
    np.testing.assert_allclose(found[:, 0, 0], changes * np.sqrt((v_1 + v_2) / counted), rtol=1e-4)
