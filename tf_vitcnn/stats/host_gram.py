"""Gram matrices on CPUs: strips of features, one triangle of blocks, each core busy with strips of its own.

TensorFlow's CPU products compute both triangles, and BLAS's threads wait for each other at every step of the one that
does not (syrk); a lone thread does it well. A strip of all rows is centred in a buffer that stays in cache while it is
multiplied: features cross the memory bus once, and no second copy of them is ever held.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import pairwise

import numpy as np

STRIP = 2**21  # numbers in a strip: 8 MB
LEAF = 512  # most rows of a block on the diagonal: one core's syrk is faster there than many small products

Sum = tuple[np.ndarray, np.floating]


def grams(features: Iterable[Sequence[np.ndarray]], pool: Executor, lanes: int) -> Iterator[Sum]:
    """X Xᵀ [n, n] of features less their mean, and the mean's squared norm, for one X after the other.

    An X is given as chunks of its rows [b, p], of float32 or of bfloat16's bits (uint16). The next one is begun before
    one is handed out, so that no core is idle while another one, or the caller, ends what it does. The same `lanes`
    give the same bits on any number of cores. `pool`: see `devices.cores`.
    """
    begun = deque[list[Future[Sum]]]()
    for chunks in features:
        begun.append(_begin(chunks, pool, lanes))
        if len(begun) > 1:
            yield _end(begun.popleft())
    while begun:
        yield _end(begun.popleft())


def _begin(chunks: Sequence[np.ndarray], pool: Executor, most: int) -> list[Future[Sum]]:
    n, p = sum(len(chunk) for chunk in chunks), chunks[0].shape[1]
    full = math.ceil(n * p / STRIP)
    lanes = min(most, full)
    cuts = np.linspace(0, p, 1 + lanes * math.ceil(full / lanes)).astype(int)  # as many strips for each core
    strips = [slice(start, stop) for start, stop in pairwise(cuts)]
    # every so many-th strip: what is added to what does not depend on which core is faster
    return [pool.submit(_sum, chunks, n, strips[lane::lanes]) for lane in range(lanes)]


def _end(parts: Sequence[Future[Sum]]) -> Sum:
    lower, offset = (sum(each[1:], each[0]) for each in zip(*(part.result() for part in parts), strict=True))
    return lower + lower.T, offset


@np.errstate(all="ignore")  # infinities are found in the sums, with the name of their tap
def _sum(chunks: Sequence[np.ndarray], n: int, strips: Sequence[slice]) -> Sum:
    """The part of some strips: of the Gram, what makes it whole with its own mirror image."""
    halvings = max(0, math.ceil(math.log2(n / LEAF)))
    rows = math.ceil(n / 2**halvings) * 2**halvings
    buffer = np.zeros((rows, max(strip.stop - strip.start for strip in strips)), np.float32)  # stays zero beyond n
    lower, offset = np.zeros((rows, rows), np.float32), np.float32(0)
    average = np.full(max(len(chunk) for chunk in chunks), 1 / n, np.float32)
    for strip in strips:
        x, centred = [_wide(chunk[:, strip]) for chunk in chunks], buffer[:, : strip.stop - strip.start]
        mean = sum(average[: len(part)] @ part for part in x)  # on strips, several times faster than a mean over rows
        offset += mean @ mean
        for top, part in zip(np.cumsum([0, *map(len, x[:-1])]), x, strict=True):
            np.subtract(part, mean, out=centred[top : top + len(part)])
        for block, left, right in _triangle(lower, centred, halvings):
            block += left @ right.transpose(0, 2, 1)
    block *= np.float32(0.5)  # the diagonal's, which came last and whole
    return lower[:n, :n], offset


def _wide(x: np.ndarray) -> np.ndarray:
    """As float32, of which bfloat16 is the upper half."""
    return x if x.dtype == np.float32 else (x.astype(np.uint32) << 16).view(np.float32)


def _triangle(lower: np.ndarray, x: np.ndarray, halvings: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Stacks of blocks of a Gram, and of the rows whose products they are: one call multiplies all of a size.

    Rows are halved, and the halves again: each second half meets its first half, and the least blocks meet themselves
    (one matrix twice: NumPy calls syrk).
    """
    for count in (2**level for level in range(halvings)):
        size = len(x) // count // 2
        blocks = np.einsum("iasibt->iasbt", lower.reshape(count, 2, size, count, 2, size))  # a view
        halves = x.reshape(count, 2, size, -1)
        yield blocks[:, 1, :, 0], halves[:, 1], halves[:, 0]
    size = len(x) // 2**halvings
    leaves = x.reshape(-1, size, x.shape[1])
    yield np.einsum("isit->ist", lower.reshape(-1, size, len(x) // size, size)), leaves, leaves
