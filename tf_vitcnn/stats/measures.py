"""Other measures of how alike two representations are, from the same centred Grams as CKA.

    rsa         Spearman's correlation of the distances between examples (Kriegeskorte et al., 2008)
    knn         share of the `NEIGHBOURS` nearest neighbours that both have, chance taken out (Huh et al., 2024)
    procrustes  1 - 2/pi arccos |Xᵀ Y|_*, X and Y centred and of unit norm (Williams et al., 2021)

All but the last are inner products of one matrix per representation, as HSIC is, so that one matrix product gives every
pair: `ranks` and `neighbours` make these matrices. |Xᵀ Y|_* is the nuclear norm of sqrt(K) sqrt(L); `roots` gives the
roots. Distances and neighbours need no centring. Axes: r representation, n example, l layer.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

NEIGHBOURS = 10


def distances(k: Any) -> Any:
    """Squared distances between the examples of Grams [r, n, n], zero on the diagonal."""
    norms = tf.linalg.diag_part(k)
    squared = norms[:, :, tf.newaxis] + norms[:, tf.newaxis, :] - 2.0 * k
    return tf.linalg.set_diag(squared, tf.zeros_like(norms))


def ranks(k: Any) -> Any:
    """Centred ranks of the distances [r, n, n] from -1/2 to 1/2, ties sharing theirs; zero on the diagonal."""
    n = int(k.shape[-1])
    upper = np.triu_indices(n, 1)
    flat = tf.gather(tf.reshape(distances(k), [-1, n * n]), upper[0] * n + upper[1], axis=1)  # [r, m]
    count, rows = len(upper[0]), tf.shape(k)[0]
    # one sort; what is equal forms a run, and a rank is midway between its run's ends
    ordered, order = tf.math.top_k(-flat, k=count)
    begins = tf.cast(ordered[:, 1:] != ordered[:, :-1], tf.int32)
    first = tf.range(rows)[:, tf.newaxis] * count
    run = tf.reshape(tf.cumsum(tf.pad(begins, [[0, 0], [1, 0]]), axis=1) + first, [-1])
    at = tf.tile(tf.range(count), [rows])
    ends = [each(at, run, rows * count) for each in (tf.math.unsorted_segment_min, tf.math.unsorted_segment_max)]
    # whole numbers until here: a sum of two ranks of a million pairs is exact in float32
    middle = tf.cast(tf.gather(ends[0] + ends[1] + 1, run), tf.float32)
    ranked = tf.scatter_nd(tf.reshape(order + first, [-1, 1]), middle, [rows * count])
    centred = (tf.reshape(ranked, [rows, count]) - count) / (2.0 * count)
    place = np.zeros((n, n), np.int32)
    place[upper] = np.arange(count)
    full = tf.gather(centred, np.maximum(place, place.T).ravel(), axis=1)
    return tf.linalg.set_diag(tf.reshape(full, [-1, n, n]), tf.zeros([tf.shape(k)[0], n], tf.float32))


def neighbours(k: Any, count: int = NEIGHBOURS) -> Any:
    """1 where an example is among the nearest `count` of another (row), else 0: [r, n, n]."""
    n = int(k.shape[-1])
    # itself is no neighbour
    apart = tf.linalg.set_diag(distances(k), tf.fill([tf.shape(k)[0], n], tf.constant(np.inf, k.dtype)))
    nearest = tf.math.top_k(-apart, k=count).indices  # [r, n, count]
    return tf.reduce_sum(tf.one_hot(nearest, n, dtype=tf.float32), axis=2)


def flat(matrices: Any) -> Any:
    """Matrices [r, n, n], symmetric or not, as vectors [r, n²]."""
    return tf.reshape(matrices, [tf.shape(matrices)[0], matrices.shape[-1] ** 2])


def beyond_chance(shared: Any, n: int, count: int = NEIGHBOURS) -> Any:
    """The share of common neighbours less that of two unrelated representations, count / (n - 1): 1 at most."""
    chance = count / (n - 1)
    return (shared - chance) / (1 - chance)


def roots(k: Any) -> Any:
    """sqrt(H K H) / |X| [r, n, n] in float64: in float32 the root of a rounding error is no longer small."""
    return tf.map_fn(_root, k, fn_output_signature=tf.float64)  # one by one: eigenvectors take as much again


def _root(k: Any) -> Any:
    k = tf.cast(k, tf.float64)
    rows = tf.reduce_mean(k, axis=-1, keepdims=True)
    centred = k - rows - tf.transpose(rows) + tf.reduce_mean(rows)
    values, vectors = tf.linalg.eigh(centred)
    # below float32's rounding of the Gram there is nothing
    floor = tf.reduce_max(values) * (np.finfo(np.float32).eps * int(k.shape[-1]))
    values = tf.where(values > floor, values, tf.zeros_like(values))
    unit = values / tf.maximum(tf.reduce_sum(values), np.finfo(np.float64).tiny)
    return tf.linalg.matmul(vectors * tf.sqrt(unit), vectors, transpose_b=True)


def overlap(x: Any, y: Any | None = None) -> Any:
    """|Xᵀ Y|_* of roots of unit norm [l, n, n] and [l', n, n]: [l, l'] float32."""
    y = x if y is None else y
    rows, columns = int(x.shape[0]), int(y.shape[0])
    at = [(i, j) for i in range(rows) for j in range(columns) if y is not x or i <= j]

    def one(pair: Any) -> Any:
        return tf.reduce_sum(tf.linalg.svd(tf.linalg.matmul(x[pair[0]], y[pair[1]]), compute_uv=False))

    # one pair after the other: together their products would take n² numbers each
    found = tf.map_fn(one, tf.constant(at, tf.int32), fn_output_signature=tf.float64)
    whole = tf.scatter_nd(tf.constant(at, tf.int32), found, [rows, columns])
    if y is x:  # the same both ways
        whole = tf.linalg.band_part(whole, 0, -1) + tf.transpose(whole - tf.linalg.band_part(whole, -1, 0))
    return tf.cast(whole, tf.float32)


@partial(tf.function, autograph=False)
def overlaps(*grams: Any) -> Any:
    """`overlap` of the roots of Grams as `flat` lays them out, [l, n²] and [l', n²]: [l, l'] float32."""
    n = math.isqrt(int(grams[0].shape[-1]))
    return overlap(*(roots(tf.reshape(each, [-1, n, n])) for each in grams))


def procrustes(overlaps: np.ndarray) -> np.ndarray:
    """1 for representations that a rotation and a scale make equal, 0 for those at a right angle."""
    return 1 - 2 / np.pi * np.arccos(np.clip(overlaps, -1, 1))
