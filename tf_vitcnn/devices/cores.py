"""All cores at work, each on something of its own: BLAS then has one thread, or its threads and ours would compete."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeVar

import scipy.linalg  # noqa: F401  only the BLAS of what is loaded can be told
from threadpoolctl import threadpool_limits

Solution = TypeVar("Solution")
PROBES = 5  # of either product, in turn, the quickest of each


def count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def at_work() -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread per core; telling BLAS takes some milliseconds."""
    with threadpool_limits(1), ThreadPoolExecutor(count()) as pool:
        yield pool


def solved(problems: Sequence[Callable[[], Solution]]) -> list[Solution]:
    """The solutions of many independent problems, one per core at a time.

    LAPACK's eigh of a thousand features gains little from a second thread; two of them at once gain a factor two.
    """
    if len(problems) < count():
        return [problem() for problem in problems]
    with at_work() as pool:
        return list(pool.map(lambda problem: problem(), problems))


def bfloat16_product(kind: str, units: bool) -> Literal["wide", "narrow", "float32"]:
    """How a CPU, GPU or TPU multiplies bfloat16 best; TensorFlow has no kernel for CPUs that gives float32.

    `units`: whether a CPU is faster at it than in float32.
    """
    if kind != "CPU":
        return "wide"
    return "narrow" if units else "float32"


@cache
def bfloat16_units() -> bool:
    """Whether TensorFlow multiplies bfloat16 faster than float32 on this CPU: measured once, in 50 ms of a processor.

    The instructions alone do not say: TensorFlow may be built or told not to use them. With them it is twice as fast,
    without them half as fast, so that the answer stays the same beside other work.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):
        wide = tf.ones([256, 2048])
        narrow = tf.cast(wide, tf.bfloat16)
        least = {wide.dtype: math.inf, narrow.dtype: math.inf}
        for _ in range(1 + PROBES):  # the first one prepares
            for x in (wide, narrow):
                begun = time.perf_counter()
                tf.linalg.matmul(x, x, transpose_b=True).numpy()
                least[x.dtype] = min(least[x.dtype], time.perf_counter() - begun)
    return least[narrow.dtype] < least[wide.dtype]
