"""Which of a request's analyses share a pass over the data, by their places in it.

Per-image analyses of a single stage share micro-batches, Gram analyses minibatches of the same size and images; one
that draws fewer times than another leaves the pass early. Where memory has no room for all Grams of a pass each of
its analyses gets a pass of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from tf_vitcnn.analyses.base import Analysis, PerImage, PerMinibatch, Run
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.errors import BadInput
from tf_vitcnn.walk.plan import plan_grams


def shared(analyses: Sequence[Analysis], runs: Sequence[Run], budget: float, replicas: Replicas) -> list[list[int]]:
    """Groups of analyses, each one pass; the same on all workers, as the budget is."""
    groups: dict[Hashable, list[int]] = {}
    for i, (analysis, bound) in enumerate(zip(analyses, runs, strict=True)):
        groups.setdefault(_images(analysis, bound) or i, []).append(i)
    parts = []
    for group in groups.values():
        grams = [a for a in (analyses[i] for i in group) if isinstance(a, PerMinibatch)]
        together = not grams or _fit(grams, [runs[i] for i in group], budget, replicas)
        parts += [group] if together else [[i] for i in group]
    return parts


def _images(analysis: Analysis, bound: Run) -> Hashable:
    """The images that an analysis reads as others may; None where it needs a pass of its own."""
    if isinstance(analysis, PerMinibatch):
        return "minibatches", bound.images, bound.batch
    if isinstance(analysis, PerImage) and len(analysis.stages(bound)) == 1 and analysis.micro is None:
        return "images", bound.images
    return None


def _fit(grams: Sequence[PerMinibatch], runs: Sequence[Run], budget: float, replicas: Replicas) -> bool:
    if len(grams) == 1:
        return True  # or is refused when its turn comes
    try:
        plan_grams(grams, runs, budget, replicas.sharing, replicas.kind)
    except BadInput:
        return False
    return True
