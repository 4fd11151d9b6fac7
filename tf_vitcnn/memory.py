"""How much memory a run may take, and the micro-batch and segment budgets that keep under it."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tf_vitcnn import surgery
from tf_vitcnn.analyses.base import PerImage, PerMinibatch, Run
from tf_vitcnn.errors import BadInput
from tf_vitcnn.subject import Subject
from tf_vitcnn.surgery.segments import nbytes

GB = 1e9
RUNTIME = 0.9 * GB  # TensorFlow itself, the input pipeline and the allocator's slack
TRANSIENT = 0.4 * GB  # what the operations of one micro-batch may hold inside a segment
JOINED = 1.1  # one tap's chunks are copied once more while its Gram is made


def available() -> float:
    """Bytes that this machine has free."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 8 * GB


def limit(gigabytes: float | None) -> float:
    """The budget in bytes: as asked, else 60 % of what is free."""
    if gigabytes is None:
        return 0.6 * available()
    if not gigabytes > 0:
        raise BadInput(f"--memory {gigabytes:g}: expected a number of gigabytes above 0")
    return gigabytes * GB


def peak() -> float:
    """The largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


@dataclass(frozen=True)
class Plan:
    """Micro-batch size, bytes per image that a segment may hold on each side, and what the run will take."""

    micro: int
    segment: dict[int, float | None]  # None: cut at blocks
    expected: float


def per_image(run: Run, names: Sequence[str], budget: float, analysis: PerImage | None = None) -> Plan:
    """Micro-batch of a per-image walk: 32 (or the analysis' own), fewer where their taps would take half the budget."""
    image = math.prod(run.subject.model.input_shape[1:]) * 4
    each = image + 3 * sum(nbytes(run.subject.model.output[name]) for name in names)
    weights = _weights(run)
    most = (analysis.micro if analysis else None) or 32
    micro = max(1, min(most, int((budget - RUNTIME - weights) / 2 / max(each, 1))))
    return Plan(micro, {}, RUNTIME + weights + 2 * micro * each + (analysis.held(run) if analysis else 0))


def grams(analysis: PerMinibatch, run: Run, budget: float, replicas: int) -> Plan:
    """Micro-batch and segment budgets of a Gram walk; refused when the smallest possible peak is too large."""
    rows, columns = analysis.views(run)
    views = [*rows, *columns]
    n = run.batch
    folded = hsic_bytes(n) * len(analysis.centrings())
    # the stack, its blocks while they are joined, and the Grams of one call with their temporaries
    stack = folded * sum(len(v.keys) for v in views) * 1.15
    together = min(64, max(len(v.keys) for v in views))
    fixed = RUNTIME + TRANSIENT + _weights(run) + replicas * (stack + 5 * together * n * n * 4)
    images = n * sum(math.prod(s.model.input_shape[1:]) * 4 for s in run.subjects) * 2
    left = (budget - fixed - replicas * images) / (n * replicas)
    least, held, widest = 0.0, {}, 1.0
    for side, subject in enumerate(run.subjects):
        names = [t for t in subject.taps if any(v.side == side and v.tap == t for v in views)]
        if not names:
            continue
        least = max(least, _widest(subject, names, 0.0))
        # a block or so at a time; finer cuts only where memory asks for them
        held[side] = None if _widest(subject, names, None) <= left else max(left, 0.0) / JOINED
        widest = max(widest, _widest(subject, names, held[side]))
    if least > left:
        fits = _largest(n, lambda m: _needs(analysis, run, m, replicas, least, budget))
        advice = f"the largest minibatch that fits is {fits}: pass --batch {fits}, or more --memory"
        raise BadInput(
            f"minibatches of {n} images need {(fixed + replicas * (images + n * least)) / GB:.1f} GB, and "
            f"{budget / GB:.1f} GB are allowed; {advice if fits else 'no minibatch fits: pass more --memory'}"
        )
    micro = int(min(n, max(1, min(64, TRANSIENT / widest))))
    return Plan(micro, held, fixed + replicas * (images + n * widest))


def hsic_bytes(n: int) -> float:
    """Bytes of one folded Gram matrix."""
    half = n // 2 + n % 2
    return 4.0 * (2 * half * half + 2 * half)


def _needs(analysis: PerMinibatch, run: Run, n: int, replicas: int, least: float, budget: float) -> bool:
    rows, columns = analysis.views(run)
    keys = sum(len(v.keys) for v in [*rows, *columns])
    together = min(64, max(len(v.keys) for v in [*rows, *columns]))
    image = sum(math.prod(s.model.input_shape[1:]) * 4 for s in run.subjects) * 2
    stack = hsic_bytes(n) * len(analysis.centrings()) * keys * 1.15 + 5 * together * n * n * 4
    return RUNTIME + TRANSIENT + _weights(run) + replicas * (stack + n * (image + least)) <= budget


def _widest(subject: Subject, names: Sequence[str], budget: float | None) -> float:
    return JOINED * max(s.bytes_per_image for s in surgery.segments(subject.model, names, budget))


def _largest(n: int, fits: Callable[[int], bool]) -> int:
    """The largest minibatch below n that fits; 0 when none does."""
    low, high = 4, n
    if not fits(low):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _weights(run: Run) -> float:
    return 4.0 * sum(s.model.count_params() for s in run.subjects)


__all__ = ["Plan", "available", "grams", "limit", "peak", "per_image"]
