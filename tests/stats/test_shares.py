"""Errors over images: influences against the derivative of CKA by an image's weight, in float64 and by brute force."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_vitcnn.stats import folded, hsic, shares
from tf_vitcnn.stats.resample import linearised, standard_error, without_each
from tf_vitcnn.tables.groups import GROUPS

ORDERS = np.array(list(itertools.permutations(range(4))))


def features(n, count=3, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3)) * np.exp(rng.normal(size=(n, 1)))
    return [np.tanh(shared @ rng.normal(size=(3, 4 + i))) + 0.3 * rng.normal(size=(n, 4 + i)) for i in range(count)]


def u_centred(x):
    n, k = len(x), x @ x.T
    np.fill_diagonal(k, 0)
    rows = k.sum(1) / (n - 2)
    u = k - rows[:, None] - rows + rows.sum() / (n - 1)
    np.fill_diagonal(u, 0)
    return u


def of_images(x, y):
    """q_i in float64."""
    n, (x, y) = len(x), (np.asarray(a, np.float64) for a in (x, y))
    x, y = x - x.mean(0), y - y.mean(0)
    return (u_centred(x) * u_centred(y)).sum(1) * (n - 2) / ((n - 1) * (n - 3))


def influences(x, y):
    """I_i, from `changes` where every image is a group: twenty at a time."""
    n = len(x)
    q = [of_images(*pair) for pair in ((x, y), (x, x), (y, y))]
    means = [s.mean() * (n - 1) / (n - 2) for s in q]
    found = []
    for start in range(0, n, GROUPS):
        part = [np.zeros(GROUPS) for _ in q]
        for target, s in zip(part, q, strict=True):
            target[: len(s[start : start + GROUPS])] = s[start : start + GROUPS]
        found.append(-(GROUPS - 1) * shares.changes(tuple(means), tuple(part), np.ones(GROUPS)))
    return np.concatenate(found)[:n]


def weighted_cka(x, y):
    """CKA as a function of the images' weights: Song et al.'s U-statistics over all sets of four, each with the
    product of its weights."""
    fours = np.array(list(itertools.combinations(range(len(x)), 4)))
    t, u, v, w = fours[:, ORDERS].transpose(2, 0, 1)

    def kernel(k, m):
        return (k[t, u] * m[t, u] + k[t, u] * m[v, w] - 2 * k[t, u] * m[t, v]).mean(1)

    k, m = x @ x.T, y @ y.T
    kernels = [kernel(k, m), kernel(k, k), kernel(m, m)]

    def cka(weights):
        each = weights[fours].prod(1)
        xy, xx, yy = (np.sum(each * h) for h in kernels)
        return xy / np.sqrt(xx * yy)

    return cka


@pytest.mark.parametrize("n", [6, 9, 14])
def test_influence_is_the_derivative_of_cka_by_an_images_weight(n):
    x, y, _ = features(n, seed=n)
    cka, step = weighted_cka(x, y), 1e-4
    found = influences(x, y)
    for image in range(n):
        up, down = np.ones(n), np.ones(n)
        up[image] += step
        down[image] -= step
        # weights' mean is one: a weight of 1 / n more is 1 more here
        assert found[image] == pytest.approx(n * (cka(up) - cka(down)) / (2 * step), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("n", [4, 7, 20, 33, 50])
@pytest.mark.parametrize("room", [2**22, 1], ids=["at once", "row by row"])
@pytest.mark.parametrize("jit", [False, True], ids=["plain", "xla"])
def test_shares_of_groups_equal_numpy(n, room, jit, monkeypatch):
    monkeypatch.setattr(shares, "ROOM", room)
    monkeypatch.setattr(shares, "LEAST", min(room, 16))
    if jit and n > 20:
        pytest.skip("the compiler takes its time")
    xs, ys = features(n, 3), features(n, 2, seed=1)
    group = np.random.default_rng(n).integers(0, GROUPS, n)
    tensors = [[tf.constant(x[None], tf.float32) for x in side] for side in (xs, ys)]

    def stack(side):  # in two blocks
        folds = [folded.grams([x], n, 1.0, tf.zeros([1]), ["u"])[0]["u"] for x in side]
        return [folds[0], tf.concat(folds[1:], 0)]

    def compute(wanted, two):
        call = tf.function(
            lambda a, b, g: shares.shares(stack(a), stack(b) if two else [], n, g, wanted), jit_compile=jit
        )
        return call(*tensors, tf.constant(group, tf.int32))

    def expected(a, b):
        return np.stack([[[of_images(x, y)[group == g].sum() for y in b] for x in a] for g in range(GROUPS)])

    both = compute(frozenset({"xy", "xx", "yy"}), True)
    scale = np.abs(expected(xs, xs)).max()
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 * scale)  # noqa: E731
    close(both["xy"], expected(xs, ys))
    close(both["xx_full"], expected(xs, xs))
    close(both["yy_full"], expected(ys, ys))
    close(both["yy"], np.einsum("gii->gi", expected(ys, ys)))
    own = compute(frozenset({"xy"}), False)
    close(own["xy"], expected(xs, xs))
    close(own["xx"], np.einsum("gii->gi", expected(xs, xs)))
    close(tf.reduce_sum(own["xy"], 0), np.array([[of_images(x, y).sum() for y in xs] for x in xs]))


def test_matching_pairs_are_the_diagonal():
    xs, ys = features(12), features(12, seed=1)
    x, y = (
        [tf.concat([folded.grams([tf.constant(f[None], tf.float32)], 12, 1.0, 0.0, ["u"])[0]["u"] for f in side], 0)]
        for side in (xs, ys)
    )
    group = tf.range(12)
    whole = shares.shares(x, y, 12, group)
    pairs = shares.shares(x, y, 12, group, frozenset({"matching"}))
    np.testing.assert_allclose(pairs["xy"], tf.linalg.diag_part(whole["xy"]), rtol=1e-5, atol=1e-5)


def test_changes_of_few_groups_give_the_error_of_those_present():
    m = np.random.default_rng(0).normal(size=(GROUPS, 3))
    present = np.arange(GROUPS) < 7
    m[:7] -= m[:7].mean(0)
    np.testing.assert_allclose(standard_error(linearised(m, present)), np.sqrt((m[:7] ** 2).sum(0) / (7 * 6)))
    np.testing.assert_allclose(linearised(m, present | True), -m / 19)
    assert np.isnan(linearised(m, np.arange(GROUPS) < 1)).all()


def test_delete_one_changes():
    rng = np.random.default_rng(0)
    sums, counts = rng.normal(size=(GROUPS, 4)) + 3, rng.integers(3, 9, (GROUPS, 1))
    value, changes = without_each({"s": sums, "n": counts}, lambda t: t["s"] / t["n"])
    for g in range(GROUPS):
        rest = np.arange(GROUPS) != g
        np.testing.assert_allclose(value + changes[g], sums[rest].sum(0) / counts[rest].sum())
    partial = value + changes
    np.testing.assert_allclose(standard_error(changes), np.sqrt(19 / 20 * ((partial - partial.mean(0)) ** 2).sum(0)))
    assert hsic.CONSTANT


@pytest.mark.parametrize("dead", [[0.0, 0.0], [0.0, np.nan]], ids=["all layers", "a constant layer"])
def test_changes_of_a_run_come_from_its_mean_minibatch(dead):
    """Two draws of 36 images in minibatches of 12: by the formula of an image's influence, written out."""
    xs, ys, n, draws = features(36), features(36, 2, seed=1), 12, 2
    rng = np.random.default_rng(0)
    sides = {"xy": (xs, ys), "xx": (xs, xs), "yy": (ys, ys)}
    q = {key: np.zeros((draws, 36, len(a), len(b))) for key, (a, b) in sides.items()}
    for draw in range(draws):
        for images in rng.permutation(36).reshape(-1, n):
            for key, (a, b) in sides.items():
                q[key][draw, images] = np.array([[of_images(x[images], y[images]) for y in b] for x in a]).T.swapaxes(
                    1, 2
                )
    own = {"xy": q["xy"], "xx": np.einsum("diaa->dia", q["xx"]), "yy": np.einsum("diaa->dia", q["yy"])}
    group = np.arange(36) % GROUPS
    totals = {"count": np.full(draws, 3.0), "groups/images": np.bincount(group) * 1.0 * draws}
    for key, each in own.items():
        totals[key] = each.sum(1) / n * (n - 1) / (n - 2)  # sums over minibatches of HSIC
        totals[f"groups/{key}"] = np.stack([each[:, group == g].sum((0, 1)) for g in range(GROUPS)])
    found = shares.of_totals(totals, ["xy", "xx", "yy"], [np.zeros(3), np.array(dead)], 36)

    h = {key: totals[key].sum(0) / 6 for key in own}
    t = h["xy"] / np.sqrt(h["xx"][:, None] * h["yy"])
    mean = {k: np.stack([own[k][:, group == g].mean((0, 1)) for g in range(GROUPS)]) for k in own}
    of_own = mean["xx"][:, :, None] / h["xx"][:, None] + mean["yy"][:, None] / h["yy"]
    np.testing.assert_allclose(found, -2 * t * (mean["xy"] / h["xy"] - of_own / 2) / 19 + np.array(dead), rtol=1e-6)
