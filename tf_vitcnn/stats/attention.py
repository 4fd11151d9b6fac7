"""How far attention looks: sums of distances on the patch grid, weighed by attention.

Query q and key k sit at the centres of two patches, D_qk pixels apart. A head's distance is the mean over images and
grid queries of sum_k A_qk D_qk / sum_k A_qk, keys on the grid only: the class token has no place, so its share is
taken out and the rest renormalised, per image, head and query, before any averaging.
"""

from typing import Any, NamedTuple

import numpy as np

SMALL = 0.1  # share of attention on the grid below which it is summed by itself


class AttentionSums(NamedTuple):
    """Sums over the grid queries of each image and head, [b, n] each. Divide by the counts once, at the end."""

    distance: Any  # sum over `kept` queries of the renormalised distance
    kept: Any  # queries with mass on the grid
    off_grid: Any  # sum over all queries of the share of keys that are not on the grid


def grid_distances(rows: int, cols: int, pitch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Distances between the centres of all patches, row-major, [rows * cols, rows * cols] float32.

    `pitch` is the height and width of a patch, in whatever unit the distances shall have.
    """
    row, col = np.indices((rows, cols)).reshape(2, -1) * np.reshape(pitch, (2, 1))
    return np.hypot(row[:, None] - row, col[:, None] - col).astype(np.float32)


def attention_sums(probs: Any, extra: int, distances: Any) -> AttentionSums:
    """Distances and off-grid shares of attention probabilities [b, n, q, k], summed over queries: [b, n] each.

    The first `extra` tokens are no patches (class, distillation, registers); `distances` is `grid_distances`.
    """
    import tensorflow as tf  # here, because charts and claims ask for distances without it

    probs = tf.cast(probs, tf.float32)
    # whole rows, padded weights: a slice of the keys would copy them all. Products and sums, no matmul: those run in
    # bfloat16 or TF32 on accelerators
    weights = tf.pad(distances, [[extra, 0], [extra, 0]])
    weighed = tf.reduce_sum(probs * weights, axis=-1)[:, :, extra:]  # [b, n, q]
    off = tf.reduce_sum(probs[:, :, extra:, :extra], axis=-1)
    on = tf.reduce_sum(probs, axis=-1)[:, :, extra:] - off
    if extra:
        # a difference keeps six digits of all but small shares
        exact = lambda: tf.reduce_sum(probs[:, :, extra:, extra:], axis=-1)  # noqa: E731
        on = tf.cond(tf.reduce_min(on) > SMALL, lambda: on, exact)
    return AttentionSums(
        distance=tf.reduce_sum(tf.math.divide_no_nan(weighed, on), axis=-1),
        kept=tf.reduce_sum(tf.cast(on > 0, tf.float32), axis=-1),
        off_grid=tf.reduce_sum(tf.math.divide_no_nan(off, on + off), axis=-1),
    )


def uniform_distance(rows: int, cols: int, pitch: tuple[float, float] = (1.0, 1.0)) -> float:
    """The distance of a head that attends to all patches alike: the mean over all pairs."""
    return float(grid_distances(rows, cols, pitch).mean(dtype=np.float64))
