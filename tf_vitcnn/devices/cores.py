"""All cores at work, each on something of its own: BLAS then has one thread, or its threads and ours would compete."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import scipy.linalg  # noqa: F401  only the BLAS of what is loaded can be told
from threadpoolctl import threadpool_limits

Solution = TypeVar("Solution")


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


def bfloat16_product(kind: str) -> Literal["wide", "narrow", "float32"]:
    """How a CPU, GPU or TPU multiplies bfloat16 best; TensorFlow has no kernel for CPUs that gives float32."""
    if kind != "CPU":
        return "wide"
    return "narrow" if bfloat16_units() else "float32"


@cache
def bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32; without such instructions it is slower."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})
