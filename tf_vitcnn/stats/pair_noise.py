"""The part of an error over images that groups count twice: what pairs of images have in common by chance.

Around what it estimates, CKA of minibatches of n images is a mean over pairs of images of

    c_ij = a K_ij L_ij + b K_ij² + c L_ij²,    a = 1 / sqrt(H_KK H_LL),  b = -t / (2 H_KK),  c = -t / (2 H_LL),

K and L being centred, and c_ij = g_i + g_j + e_ij (Hoeffding): what image i brings to every pair, and what only this
pair has. Of N images in every one of R draws from a source of M, the variance of the mean is V_1 + V_2,

    V_1 = 4 var(g) (1 + (R-1) N/M) / (R N),    V_2 = 2 var(e) (1 + (R-1) p) / (R N (n-1)),    p = N (n-1) / (M (M-1)),

p being how often a pair meets in a draw. A group's mean influence has e_ij on both of its sides, so that 20 groups give
V_1 + 2 V_2 (exactly, in expectation: m_g has the variance 2 (G+1) V_2 of it, the mean over groups 4 V_2). But
mean c_ij² = 2 var(g) + var(e), and it is made of the means of K²L², K³L, KL³, K⁴, L⁴ over pairs: inner products of
powers of the stacks. So V_2 follows, and is taken out once.

Left out: pairs that share a third image (the centring's own noise: as much again at rank one, where V_2 is small
against V_1, and less in proportion to the rank), and higher terms. Sampling shrinks a centred Gram's squares by
(n-3)/(n-1): its fourth powers are divided by that squared.
Axes: l layer, f folded entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_vitcnn.stats.folded import Stack
from tf_vitcnn.stats.resample import standard_error

ROOM = 2**22  # numbers of the stacks that are raised to powers at once: 16 MB
ROUNDING = 1e-5  # of float32 sums of fourth powers


class Drawn(NamedTuple):
    """How images came to their minibatches."""

    minibatches: float  # in all
    draws: int  # in which the images were drawn anew
    appearances: float  # of images, in all
    source: int  # images that draws are taken from; of a single draw it does not matter

    @property
    def weights(self) -> tuple[float, float]:
        """V_2 / var(e), and 4 var(g) / V_1."""
        n, each = self.appearances / self.minibatches, self.appearances / self.draws
        source = max(self.source, each)
        meeting = each * (n - 1) / (source * (source - 1))
        again = self.draws - 1
        return 2 * (1 + again * meeting) / (self.appearances * (n - 1)), self.appearances / (1 + again * each / source)


def moments(x: Stack, y: Stack, n: int, wanted: frozenset[str] = frozenset({"xy"})) -> dict[str, Any]:
    """Means over pairs of images of K²L², K³L, KL³ as [3, ...], by the names of `folded.products`.

    Of `xx` and `yy`, each layer with itself, there is one: K⁴.
    """
    size = int(x[0].shape[1])
    width = min(size, max(1, ROOM // sum(int(block.shape[0]) for block in (*x, *y))))
    steps = -(-size // width)

    def part(step: Any) -> dict[str, Any]:
        # the last part begins earlier than it would, and leaves out what the one before it had
        start = tf.minimum(step * width, size - width)
        new = start + tf.range(width) >= step * width
        x_part, y_part = (
            tf.concat([tf.where(new, tf.slice(b, [0, start], [b.shape[0], width]), 0.0) for b in s], 0) if s else None
            for s in (x, y)
        )
        return _inner(x_part, y_part, wanted)

    total = part(tf.constant(0))
    if steps > 1:

        def add(step: Any, total: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return step + 1, {key: total[key] + value for key, value in part(step).items()}

        # one after the other: side by side they would hold their powers together
        _, total = tf.while_loop(lambda step, _: step < steps, add, (tf.constant(1), total), parallel_iterations=1)
    # folded entries are sqrt(2) times a pair's, so that fourth powers weigh four times, and stand for two pairs
    scale = 0.5 * (n - 1) / (n * (n - 3) ** 2)
    return {key: value * scale for key, value in total.items()}


def _inner(x: Any, y: Any | None, wanted: frozenset[str]) -> dict[str, Any]:
    if y is None:
        xy = _own(x)
        return {"xy": xy, "xx": tf.linalg.diag_part(xy[0])}
    found = {"xx": tf.reduce_sum(x**4, -1), "yy": tf.reduce_sum(y**4, -1)}
    if "matching" in wanted:
        found["xy"] = tf.stack([tf.reduce_sum(a * b, -1) for a, b in ((x**2, y**2), (x**3, y), (x, y**3))])
    else:
        found["xy"] = tf.stack([_matmul(a, b) for a, b in ((x**2, y**2), (x**3, y), (x, y**3))])
    return found | {f"{key}_full": _own(s) for key, s in (("xx", x), ("yy", y)) if key in wanted}


def _own(x: Any) -> Any:
    square = tf.square(x)
    odd = _matmul(square * x, x)
    return tf.stack([_matmul(square, square), odd, tf.transpose(odd)])


def _matmul(x: Any, y: Any) -> Any:
    return tf.linalg.matmul(x, y, transpose_b=True)


def counted_once(changes: np.ndarray, hsic_of: Sequence[Any], moments_of: Sequence[Any], drawn: Drawn) -> np.ndarray:
    """Changes of CKA without each group [GROUPS, ...], scaled so that their error has the noise of pairs once.

    `hsic_of` as in `shares.changes`; `moments_of` are the means over minibatches of `moments` of the same, [3, ...],
    [..., lx], [..., ly].
    """
    xy, xx, yy = (np.asarray(value, np.float64) for value in hsic_of)
    both, own_x, own_y = (np.asarray(value, np.float64) for value in moments_of)
    if xy.ndim > xx.ndim:
        xx, own_x, yy, own_y = xx[:, None], own_x[:, None], yy[None], own_y[None]
    of_pair, of_image = drawn.weights
    with np.errstate(invalid="ignore", divide="ignore"):
        a = 1 / np.sqrt(xx * yy)
        b, c = -a * xy / (2 * xx), -a * xy / (2 * yy)
        parts = (a * a + 2 * b * c) * both[0], 2 * a * b * both[1], 2 * a * c * both[2], b * b * own_x, c * c * own_y
        # of layers that are alike little is left: no more than rounding is nothing
        squares = sum(parts) - ROUNDING * sum(np.abs(part) for part in parts)
        counted = standard_error(changes) ** 2
        # counted = V_1 + 2 V_2 and squares = 2 var(g) + var(e), for V_2
        noise = of_pair * (squares - of_image / 2 * counted) / (1 - of_pair * of_image)
        # all of the variance is at least that of the pairs
        right = np.clip(np.maximum(counted - noise, noise), 0, counted)
        return changes * np.sqrt(np.where(counted > 0, right / counted, 1.0))
