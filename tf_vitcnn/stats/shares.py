"""Groups' shares of HSIC, and what CKA would be without a group: errors over images.

With U and V the U-centred Grams of n images, r_i = sum_j U_ij V_ij is image i's share of HSIC1 = sum_i r_i / (n (n-3)).
The derivative of t = H_KL / sqrt(H_KK H_LL) by the weight of image i, the weights' mean being one, is its influence

    I_i = 2 t (q_i(KL) / H_KL - q_i(KK) / (2 H_KK) - q_i(LL) / (2 H_LL)),    q_i = r_i / (n-3) (n-2) / (n-1)

(Song et al., 2012, theorem 5, of which the other terms vanish for U-centred matrices; the last factor makes it the
derivative of the U-statistic itself, not of its limit). Sums of q_i over groups of images are additive. Repeats cannot
stand in for them: they are the same images again. What two images share by chance counts twice in the groups' error, as
in any jackknife of a U-statistic, up to 1.4 times too large in all: pair_noise.py takes it out once.

Folded Grams (hsic.py) hold a pair of images once. Both images' rows are put together again some at a time, so that no
whole matrix of a stack is ever held.
Axes: g group, i j images, l layer, h half of the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.stats import pair_noise
from tf_vitcnn.stats.folded import Stack
from tf_vitcnn.stats.resample import GROUPS, linearised

ROOM = 2**22  # numbers in the rows that are put together at once: 16 MB
LEAST = 16  # of them, whatever they take: fewer read whole cache lines for a part of each


def shares(
    x: Stack,
    y: Stack,
    n: int,
    group: Any,
    wanted: frozenset[str] = frozenset({"xy"}),
    groups: int = GROUPS,
    flat: bool = False,
) -> dict[str, Any]:
    """Sums of q_i over each group's images, [groups, ...] by the names of `folded.products`; `group` [n] int32.

    `flat`: the stacks hold whole matrices row by row instead of folded ones. They need not be symmetric: an image's
    share is then the mean of its row's and its column's.
    """
    half = n // 2 + n % 2
    group = tf.pad(group, [[0, 2 * half - n]], constant_values=-1)
    representations = sum(int(block.shape[0]) for block in (*x, *y))
    count = min(half, max(LEAST, ROOM // (4 * half * representations)))
    steps = -(-half // count)
    scale = 0.5 * (n - 2) / ((n - 1) * (n - 3))  # folded pairs weigh twice; rows and columns are two
    rows = _flat_rows if flat else _rows

    def part(step: Any) -> dict[str, Any]:
        # the last part begins earlier than it would, and leaves out what the one before it had
        start = tf.minimum(step * count, half - count)
        new = start + tf.range(count) >= step * count
        of = tf.concat([tf.slice(group, [top + start], [count]) for top in (0, half)], 0)
        of = tf.where(tf.concat([new, new], 0), of, -1)
        x_rows, y_rows = (tf.concat([rows(b, start, count, half) for b in s], 1) if s else None for s in (x, y))
        pairs = _pairs(x_rows, y_rows, wanted)
        return {key: tf.math.unsorted_segment_sum(value, of, groups) for key, value in pairs.items()}

    total = part(tf.constant(0))
    if steps > 1:

        def add(step: Any, total: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return step + 1, {key: total[key] + value for key, value in part(step).items()}

        # one after the other: side by side they would hold their rows together
        _, total = tf.while_loop(lambda step, _: step < steps, add, (tf.constant(1), total), parallel_iterations=1)
    return {key: value * scale for key, value in total.items()}


def _rows(block: Any, start: Any, count: int, half: int) -> Any:
    """Rows start ... start + count of both halves of the images [2 count, l, 2h] of folded matrices [l, f].

    Of S = [[A, B], [Bᵀ, C]] the fold has the strict upper triangle of A and the strict lower one of C in one square,
    then B.
    """
    layers = block.shape[0]
    folded = tf.reshape(block, [layers, -1, half])  # the diagonal, which is zero, comes last
    along = [tf.slice(folded, [0, top + start, 0], [layers, count, half]) for top in (0, half)]
    across = [tf.linalg.matrix_transpose(tf.slice(folded, [0, top, start], [layers, half, count])) for top in (0, half)]
    upper = (start + tf.range(count))[:, None] < tf.range(half)
    first = tf.concat([tf.where(upper, along[0], across[0]), along[1]], -1)
    second = tf.concat([across[1], tf.where(upper, across[0], along[0])], -1)
    return tf.transpose(tf.concat([first, second], 1), [1, 0, 2])


def _flat_rows(block: Any, start: Any, count: int, half: int) -> Any:
    """The same rows, and the columns behind them, of whole matrices [l, n²]: [2 count, l, 4 h]."""
    layers, n = block.shape[0], round(int(block.shape[1]) ** 0.5)
    size = 2 * half
    whole = tf.pad(tf.reshape(block, [layers, n, n]), [[0, 0], [0, size - n], [0, size - n]])
    rows = [tf.slice(whole, [0, top + start, 0], [layers, count, size]) for top in (0, half)]
    columns = [tf.slice(whole, [0, 0, top + start], [layers, size, count]) for top in (0, half)]
    return tf.concat(
        [
            tf.transpose(tf.concat(rows, 1), [1, 0, 2]),
            tf.transpose(tf.concat(columns, 2), [2, 0, 1]),
        ],
        -1,
    )


def _pairs(x: Any, y: Any | None, wanted: frozenset[str]) -> dict[str, Any]:
    """sum_j of products of rows [i, l, j], for the pairs of layers that are wanted: [i, ...]."""
    if y is None:
        xy = tf.linalg.matmul(x, x, transpose_b=True)
        return {"xy": xy, "xx": tf.linalg.diag_part(xy)}
    own = {"xx": tf.reduce_sum(tf.square(x), -1), "yy": tf.reduce_sum(tf.square(y), -1)}
    own["xy"] = tf.reduce_sum(x * y, -1) if "matching" in wanted else tf.linalg.matmul(x, y, transpose_b=True)
    full = {
        f"{key}_full": tf.linalg.matmul(s, s, transpose_b=True) for key, s in (("xx", x), ("yy", y)) if key in wanted
    }
    return own | full


def of_totals(totals: Mapping[str, np.ndarray], names: Sequence[str], dead: Sequence[Any], source: int) -> np.ndarray:
    """What CKA of a run's totals changes by without each group, from images drawn from a source of that size.

    `names` of xy, xx and yy in the totals (analyses/base.py: PerMinibatch); `dead` [lx], [ly] is NaN for layers that
    have no CKA.
    """
    minibatches, images = totals["count"].sum(), totals["groups/images"]
    xy, xx, yy = (totals[name].sum(axis=0) / minibatches for name in names)
    mean = xy, xx + dead[0], yy + dead[1]
    found = changes(mean, [totals[f"groups/{name}"] for name in names], images)
    if f"pairs/{names[0]}" not in totals:
        return found
    drawn = pair_noise.Drawn(minibatches, int((totals["count"] > 0).sum()), images.sum(), source)
    return pair_noise.counted_once(found, mean, [totals[f"pairs/{name}"] / minibatches for name in names], drawn)


def changes(hsic_of: Sequence[Any], sums: Sequence[Any], images: np.ndarray) -> np.ndarray:
    """What CKA changes by without each group, [GROUPS, ...]; NaN where there is no CKA, zero for groups without images.

    `hsic_of` are H_KL [..., lx, ly], H_KK [..., lx], H_LL [..., ly] averaged over minibatches (or three arrays of one
    shape: matching pairs), `sums` the groups' sums of q_i of the same, `images` [GROUPS] how often its images appear.
    """
    present = np.asarray(images) > 0
    each = np.where(present, images, 1)
    return linearised(influence(hsic_of, [s / each.reshape(-1, *[1] * (s.ndim - 1)) for s in sums]), present)


def influence(hsic_of: Sequence[Any], means: Sequence[Any]) -> np.ndarray:
    """I [i, ...] of CKA from mean q [i, ...] of images or groups, other arguments as in `changes`."""
    xy, xx, yy = (np.asarray(value, np.float64) for value in hsic_of)
    of_xy, of_xx, of_yy = (np.asarray(mean, np.float64) for mean in means)
    if xy.ndim > xx.ndim:
        xx, of_xx, yy, of_yy = xx[..., :, None], of_xx[..., :, None], yy[..., None, :], of_yy[..., None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where((xx > 0) & (yy > 0), 1 / np.sqrt(np.maximum(xx * yy, 0)), np.nan)
        return 2 * scale * (of_xy - xy * (of_xx / xx + of_yy / yy) / 2)
