"""Gram matrices on CPUs: strips of features, blocks on and below the diagonal, one core's products beside another's.

TensorFlow's CPU products compute both triangles, and BLAS's threads wait for each other at every step of the one that
does not (syrk). A strip of all rows is centred in a buffer that stays in cache while it is multiplied: features cross
the memory bus once, and no second copy of them is ever held.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np

from tf_vitcnn.stats import cores

STRIP = 2**20  # numbers in a strip: 4 MB; 1 to 8 MB are alike
ROWS = 64  # rows of a block: fewer leave out more of the upper triangle, and multiply more slowly


def gram(chunks: Sequence[np.ndarray], pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.floating]:
    """X Xᵀ [n, n] of float32 features less their mean, and the mean's squared norm; X is the chunks' rows [b, p]."""
    n, p = sum(len(chunk) for chunk in chunks), chunks[0].shape[1]
    full = math.ceil(n * p / STRIP)
    lanes = min(cores.count(), full)
    cuts = np.linspace(0, p, 1 + lanes * math.ceil(full / lanes)).astype(int)  # as many strips for each core
    strips = [slice(start, stop) for start, stop in pairwise(cuts)]
    # every so many-th strip: what is added to what does not depend on which core is faster
    parts = pool.map(partial(_sum, chunks, n), (strips[lane::lanes] for lane in range(lanes)))
    lower, offset = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
    return np.tril(lower) + np.tril(lower, -1).T, offset


def _sum(chunks: Sequence[np.ndarray], n: int, strips: Sequence[slice]) -> tuple[np.ndarray, np.floating]:
    """The sums of some strips; only blocks on and below the diagonal are filled."""
    lower, offset = np.zeros((n, n), np.float32), np.float32(0)
    average = np.full(max(len(chunk) for chunk in chunks), 1 / n, np.float32)
    buffer = np.empty((n, max(strip.stop - strip.start for strip in strips)), np.float32)
    for strip in strips:
        x, centred = [chunk[:, strip] for chunk in chunks], buffer[:, : strip.stop - strip.start]
        mean = sum(average[: len(rows)] @ rows for rows in x)  # on strips, several times faster than a mean over rows
        offset += mean @ mean
        for top, rows in zip(np.cumsum([0, *map(len, x[:-1])]), x, strict=True):
            np.subtract(rows, mean, out=centred[top : top + len(rows)])
        for top in range(0, n, ROWS):
            block = slice(top, top + ROWS)
            lower[block, :top] += centred[block] @ centred[:top].T
            lower[block, block] += centred[block] @ centred[block].T  # one matrix twice: NumPy calls syrk
    return lower, offset
