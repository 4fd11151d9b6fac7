"""Gram matrices on CPUs: strips of features, blocks on and below the diagonal, one core's products beside another's.

TensorFlow's CPU products compute both triangles, and BLAS's threads wait for each other at every step of the one that
does not (syrk). A strip is centred in a buffer that stays in cache while it is multiplied: features cross the memory
bus once.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tf_vitcnn.stats import cores

STRIP = 2**20  # numbers in a strip: 4 MB; 1 to 8 MB are alike
ROWS = 64  # rows of a block: fewer leave out more of the upper triangle, and multiply more slowly


def gram(x: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.floating]:
    """X Xᵀ [n, n] of float32 features [n, p] less their mean, and the mean's squared norm."""
    full = math.ceil(x.size / STRIP)
    lanes = min(cores.count(), full)
    strips = np.array_split(x, lanes * math.ceil(full / lanes), axis=1)  # views: as many for each core
    # every so many-th strip: what is added to what does not depend on which core is faster
    parts = pool.map(_sum, (strips[lane::lanes] for lane in range(lanes)))
    lower, offset = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
    return np.tril(lower) + np.tril(lower, -1).T, offset


def _sum(strips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.floating]:
    """The sums of some strips; only blocks on and below the diagonal are filled."""
    n = len(strips[0])
    lower, offset = np.zeros((n, n), np.float32), np.float32(0)
    average, buffer = np.full(n, 1 / n, np.float32), np.empty_like(strips[0], order="C")
    for strip in strips:
        mean = average @ strip  # on strips, several times faster than strip.mean(0)
        offset += mean @ mean
        centred = np.subtract(strip, mean, out=buffer[:, : strip.shape[1]])
        for top in range(0, n, ROWS):
            block = slice(top, top + ROWS)
            lower[block, :top] += centred[block] @ centred[:top].T
            lower[block, block] += centred[block] @ centred[block].T  # one matrix twice: NumPy calls syrk
    return lower, offset
