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


def entropies(probs: Any) -> Any:
    """Mean over queries of the entropy of attention probabilities [b, n, q, k], as share of log k: [b, n].

    1 for a head that looks at all keys alike, 0 for one that looks at a single key.
    """
    import tensorflow as tf

    probs = tf.cast(probs, tf.float32)
    # x log x, 0 where x is 0; sums of them before the division, so that the mean costs no pass of its own
    negative = tf.reduce_sum(tf.math.xlogy(probs, probs), axis=-1)
    return -tf.reduce_mean(negative, axis=-1) / float(np.log(probs.shape[-1]))


def centred_maps(probs: Any, extra: int, grid: tuple[int, int]) -> Any:
    """Attention by where the key lies as seen from the query, [..., q, k] -> [..., 2 rows - 1, 2 cols - 1].

    Sums over the grid queries; entry (rows - 1 + i, cols - 1 + j) belongs to keys i rows below and j columns to the
    right. `extra` tokens without a place are left out.
    """
    import tensorflow as tf

    rows, cols = grid
    lead = probs.shape[:-2].as_list()
    on_grid = tf.reshape(tf.cast(probs, tf.float32)[..., extra:, extra:], [-1, rows, cols, rows, cols])
    by_cols = _along_diagonals(tf.transpose(on_grid, [0, 1, 3, 2, 4]))  # [x, row, key's row, 2 cols - 1]
    by_rows = _along_diagonals(tf.transpose(by_cols, [0, 3, 1, 2]))  # [x, 2 cols - 1, 2 rows - 1]
    return tf.reshape(tf.transpose(by_rows, [0, 2, 1]), [*lead, 2 * rows - 1, 2 * cols - 1])


def _along_diagonals(x: Any) -> Any:
    """Sums over the diagonals of square matrices [..., q, k] -> [..., 2 k - 1], from k - q = 1 - size to size - 1."""
    import tensorflow as tf

    size, lead = int(x.shape[-1]), x.shape[:-2].as_list()
    # rows of 2 size - 1 numbers, read as rows of 2 size: each begins one place further to the left
    padded = tf.reshape(
        tf.pad(tf.reshape(x, [-1, size, size]), [[0, 0], [0, 0], [size - 1, 0]]), [-1, size * (2 * size - 1)]
    )
    skewed = tf.reshape(tf.pad(padded, [[0, 0], [0, size]]), [-1, size, 2 * size])
    return tf.reshape(tf.reduce_sum(skewed, axis=1)[:, :-1], [*lead, 2 * size - 1])


def peaks(maps: np.ndarray) -> np.ndarray:
    """Where sums of `centred_maps` [..., r, c] peak, divided by how many pairs lie so apart: [..., 2] rows, cols."""
    maps = np.asarray(maps, np.float64)
    r, c = maps.shape[-2:]
    pairs = _pairs(r)[:, None] * _pairs(c)
    flat = (maps / pairs).reshape(*maps.shape[:-2], -1).argmax(axis=-1)
    return np.stack([flat // c - (r - 1) // 2, flat % c - (c - 1) // 2], axis=-1)


def _pairs(across: int) -> np.ndarray:
    """How many pairs of places in a row lie each distance apart: 1, 2, ..., size, ..., 2, 1."""
    size = (across + 1) // 2
    return size - np.abs(np.arange(across) - (size - 1))


def uniform_distance(rows: int, cols: int, pitch: tuple[float, float] = (1.0, 1.0)) -> float:
    """The distance of a head that attends to all patches alike: the mean over all pairs."""
    return float(grid_distances(rows, cols, pitch).mean(dtype=np.float64))
