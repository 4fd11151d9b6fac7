"""Folded Grams and products of stacks in blocks, against whole matrices in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tests.stats.test_shares import u_centred
from tf_vitcnn.stats import folded, hsic


def stacked(rng, sizes, width=7):
    rows = [rng.normal(size=(size, width)).astype(np.float32) for size in sizes]
    return [tf.constant(block) for block in rows], np.concatenate(rows).astype(np.float64)


@pytest.mark.parametrize("n", [6, 9, 11])
def test_grams_of_chunks_the_last_of_them_padded(n):
    """Three representations of other sizes than examples; scales and what was subtracted go into the norms."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(3, n, 5)).astype(np.float32)
    padded = np.concatenate([x, np.full((3, -n % 4, 5), 1e9, np.float32)], axis=1)
    scale, offset = np.array([0.5, 2.0, 4.0], np.float32), np.array([0.0, 3.0, 7.0], np.float32)
    chunks = [tf.constant(chunk) for chunk in np.split(padded, padded.shape[1] // 4, axis=1)]
    found, norms = folded.grams(chunks, n, tf.constant(scale), tf.constant(offset), ["u", "biased"])
    exact = x.astype(np.float64) * scale[:, None, None]
    u = np.array([u_centred(each).ravel() for each in exact])
    np.testing.assert_allclose(found["u"] @ tf.transpose(found["u"]), u @ u.T, rtol=1e-4, atol=1e-4)
    centred = exact - exact.mean(1, keepdims=True)
    whole = np.array([(each @ each.T).ravel() for each in centred])
    np.testing.assert_allclose(found["biased"] @ tf.transpose(found["biased"]), whole @ whole.T, rtol=1e-4)
    np.testing.assert_allclose(norms[0], np.square(centred).sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norms[1], np.square(exact).sum((1, 2)) + n * offset * scale**2, rtol=1e-5)


def test_one_scale_for_all():
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    one = folded.grams([tf.constant(x)], 6, 0.25, tf.zeros([2]), ["u"])
    each = folded.grams([tf.constant(x)], 6, tf.fill([2], 0.25), tf.zeros([2]), ["u"])
    assert np.array_equal(one[0]["u"], each[0]["u"])
    assert np.array_equal(one[1], each[1])


@pytest.mark.parametrize("sizes", [[1], [64], [65, 1], [1] * 130, [40, 40, 10, 14, 1], [3, 64, 64, 2]])
def test_blocks_are_joined_in_order_up_to_what_goes_together(sizes):
    found = folded.joined(sizes)
    assert [size for part in found for size in sizes[part]] == sizes
    for part, after in zip(found, [*found[1:], None], strict=True):
        assert sum(sizes[part]) <= folded.TOGETHER or part.stop - part.start == 1
        if after:  # the next block had no room
            assert sum(sizes[part]) + sizes[after.start] > folded.TOGETHER


@pytest.mark.parametrize("sizes", [[4], [2, 3], [1, 3, 2]])
def test_products_of_blocks_are_those_of_all_rows(sizes):
    rng = np.random.default_rng(0)
    (x, rows), (y, others), (z, alike) = stacked(rng, sizes), stacked(rng, [2, 4]), stacked(rng, sizes)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    alone = folded.products(x, [])
    assert alone.keys() == {"xy", "xx"}
    close(alone["xy"], rows @ rows.T)
    close(alone["xx"], np.square(rows).sum(1))
    both = folded.products(x, y, frozenset({"xy", "xx", "yy"}))
    assert both.keys() == {"xy", "xx", "yy", "xx_full", "yy_full"}
    close(both["xy"], rows @ others.T)
    close(both["xx"], np.square(rows).sum(1))
    close(both["yy"], np.square(others).sum(1))
    close(both["xx_full"], rows @ rows.T)
    close(both["yy_full"], others @ others.T)
    close(folded.products(x, z, frozenset({"matching"}))["xy"], (rows * alike).sum(1))
    picked = [len(rows) - 1, 0, 1]
    close(folded.chosen(x, picked), rows[picked])
    for form, over in (("u", 9 * 6), ("biased", 8 * 8)):
        close(folded.sums(form, x, y, 9, frozenset({"xy"}))["xy"], rows @ others.T / over)
        assert float(hsic.normaliser(9, form == "biased")) == over
