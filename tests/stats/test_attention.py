"""Attention distances against a plain double loop, and in the limits that can be worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_vitcnn.stats import attention
from tf_vitcnn.stats.attention import attention_sums, grid_distances, peaks, uniform_distance


def looped(probs, rows, cols, pitch, extra):
    """The definition, one query and one key at a time: distance, kept queries, off-grid share."""
    images, heads = probs.shape[:2]
    distance, kept, off = (np.zeros((images, heads)) for _ in range(3))
    for b in range(images):
        for n in range(heads):
            for q in range(rows * cols):
                weighed = on = 0.0
                for k in range(rows * cols):
                    y, x = q // cols - k // cols, q % cols - k % cols
                    a = float(probs[b, n, extra + q, extra + k])
                    weighed += a * math.sqrt((pitch[0] * y) ** 2 + (pitch[1] * x) ** 2)
                    on += a
                away = float(probs[b, n, extra + q, :extra].sum())
                off[b, n] += away / (on + away)
                if on > 0:
                    distance[b, n] += weighed / on
                    kept[b, n] += 1
    return distance, kept, off


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("extra", [0, 1, 2, 5])
@pytest.mark.parametrize(("rows", "cols", "pitch"), [(2, 2, (1, 1)), (2, 3, (16, 8)), (4, 2, (14, 14))])
def test_random_attention_is_the_double_loop(extra, rows, cols, pitch):
    tokens = extra + rows * cols
    probs = softmax(3 * np.random.default_rng(0).standard_normal((3, 2, tokens, tokens)))
    got = attention_sums(probs, extra, grid_distances(rows, cols, pitch))
    for value, wanted in zip(got, looped(probs, rows, cols, pitch, extra), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


def means(probs, extra, rows, cols, pitch=(1.0, 1.0)):
    sums = attention_sums(probs.astype(np.float32), extra, grid_distances(rows, cols, pitch))
    return np.asarray(sums.distance / sums.kept), np.asarray(sums.off_grid) / (rows * cols)


def test_uniform_attention_on_two_by_two():
    """Each patch sees itself, two neighbours and a diagonal one."""
    distance, off = means(np.full((1, 1, 4, 4), 0.25), 0, 2, 2, (32, 32))
    assert distance == pytest.approx(32 * (2 + math.sqrt(2)) / 4, rel=1e-6)
    assert off == 0
    assert uniform_distance(2, 2, (32, 32)) == pytest.approx(32 * (2 + math.sqrt(2)) / 4, rel=1e-6)


def test_identity_attention_stays_at_home():
    distance, _ = means(np.eye(6)[None, None], 0, 2, 3)
    assert distance == 0


def test_attention_to_a_single_key_is_the_mean_distance_to_it():
    probs = np.zeros((1, 1, 6, 6))
    probs[..., 0] = 1
    distance, _ = means(probs, 0, 2, 3, (10, 10))
    assert distance == pytest.approx(10 * (0 + 1 + 2 + 1 + math.sqrt(2) + math.sqrt(5)) / 6, rel=1e-6)


def test_half_of_the_attention_on_the_class_token_does_not_halve_the_distance():
    grid = softmax(np.random.default_rng(1).standard_normal((1, 1, 9, 9)))
    probs = np.zeros((1, 1, 10, 10))
    probs[..., 1:, 1:] = grid / 2
    probs[..., 1:, 0] = 0.5
    distance, off = means(probs, 1, 3, 3)
    alone, _ = means(grid, 0, 3, 3)
    np.testing.assert_allclose(distance, alone, rtol=1e-6)
    np.testing.assert_allclose(off, 0.5, rtol=1e-6)


def test_what_the_class_token_itself_attends_to_does_not_count():
    rng = np.random.default_rng(2)
    probs = softmax(rng.standard_normal((1, 2, 5, 5)))
    other = probs.copy()
    other[:, :, 0] = softmax(rng.standard_normal((1, 2, 5)))
    for a, b in zip(means(probs, 1, 2, 2), means(other, 1, 2, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_query_without_mass_on_the_grid_is_left_out():
    probs = softmax(np.random.default_rng(3).standard_normal((1, 1, 5, 5)))
    probs[0, 0, 2] = [1, 0, 0, 0, 0]
    sums = attention_sums(probs, 1, grid_distances(2, 2))
    assert sums.kept.numpy() == 3
    wanted, _, off = looped(probs, 2, 2, (1, 1), 1)
    np.testing.assert_allclose(sums.distance, wanted, rtol=1e-5)
    np.testing.assert_allclose(sums.off_grid, off, rtol=1e-5)


def test_half_precision_probabilities_are_weighed_in_single():
    import tensorflow as tf

    probs = tf.cast(softmax(np.zeros((1, 1, 49, 49))), tf.float16)
    sums = attention_sums(probs, 0, grid_distances(7, 7, (32, 32)))
    assert sums.distance.dtype == tf.float32
    assert (sums.distance / sums.kept).numpy() == pytest.approx(uniform_distance(7, 7, (32, 32)), rel=1e-5)


def test_a_small_share_on_the_grid_keeps_its_digits():
    probs = np.random.default_rng(0).random((2, 3, 10, 10)).astype("float32")
    probs[:, 0, :, 0] = 1e5  # a head that looks at the class token, all but a millionth or so
    probs /= probs.sum(-1, keepdims=True)
    distances = grid_distances(3, 3)
    sums = attention_sums(probs, 1, distances)
    grid = probs[:, :, 1:, 1:].astype("float64")
    expected = ((grid * distances).sum(-1) / grid.sum(-1)).sum(-1)
    np.testing.assert_allclose(sums.distance, expected, rtol=1e-5)


def test_entropy_is_one_for_uniform_attention_and_nothing_for_a_single_key():
    probs = np.zeros((2, 3, 5, 5), np.float32)
    probs[:, 0] = 0.2
    probs[:, 1, :, 2] = 1
    probs[:, 2, :, :2] = 0.5
    found = attention.entropies(tf.constant(probs)).numpy()
    np.testing.assert_allclose(found, np.tile([1, 0, np.log(2) / np.log(5)], (2, 1)), atol=1e-6)


@pytest.mark.parametrize(("rows", "cols", "extra"), [(2, 3, 1), (4, 4, 0), (1, 5, 2)])
def test_centred_maps_equal_the_double_loop(rows, cols, extra):
    rng = np.random.default_rng(rows)
    probs = rng.random((2, 3, extra + rows * cols, extra + rows * cols), np.float32)
    wanted = np.zeros((2, 3, 2 * rows - 1, 2 * cols - 1))
    for q in range(rows * cols):
        for k in range(rows * cols):
            down, right = k // cols - q // cols, k % cols - q % cols
            wanted[:, :, rows - 1 + down, cols - 1 + right] += probs[:, :, extra + q, extra + k]
    found = attention.centred_maps(tf.constant(probs), extra, (rows, cols)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("offset", [(0, 1), (-1, 0), (2, -1), (0, 0)])
def test_a_head_that_looks_one_way_peaks_there(offset):
    rows, cols = 5, 4
    probs = np.full((1, 1, rows * cols, rows * cols), 1e-3, np.float32)
    for q in range(rows * cols):
        row, col = q // cols + offset[0], q % cols + offset[1]
        if 0 <= row < rows and 0 <= col < cols:
            probs[..., q, row * cols + col] = 1
    maps = attention.centred_maps(tf.constant(probs), 0, (rows, cols)).numpy()
    assert tuple(attention.peaks(maps)[0, 0]) == offset


@pytest.mark.parametrize(("rows", "cols"), [(2, 3), (4, 3), (1, 5)])
def test_peaks_are_those_of_the_mean_over_pairs_of_places(rows, cols):
    sums = np.random.default_rng(rows).uniform(size=(50, 2 * rows - 1, 2 * cols - 1))
    pairs = np.zeros(sums.shape[1:])
    places = [(row, col) for row in range(rows) for col in range(cols)]
    for q in places:
        for k in places:
            pairs[k[0] - q[0] + rows - 1, k[1] - q[1] + cols - 1] += 1
    highest = [np.unravel_index(np.argmax(one / pairs), pairs.shape) for one in sums]
    np.testing.assert_array_equal(peaks(sums), np.array(highest) - (rows - 1, cols - 1))
