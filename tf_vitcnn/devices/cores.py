"""All cores at work, each on something of its own: BLAS then has one thread, or its threads and ours would compete."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import scipy.linalg  # noqa: F401  only the BLAS of what is loaded can be told
from threadpoolctl import threadpool_limits


def count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def at_work() -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread per core; telling BLAS takes some milliseconds."""
    with threadpool_limits(1), ThreadPoolExecutor(count()) as pool:
        yield pool
