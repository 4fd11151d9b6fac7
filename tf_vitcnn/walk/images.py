"""One pass of images, micro-batch by micro-batch: model, taps and sums in one `tf.function`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.subject import Subject


class PerImageWalk:
    """The step of a stage: taps of one micro-batch, computed once, to the sums of all analyses that share it."""

    def __init__(
        self, analyses: Sequence[PerImage], stage: Stage, runs: Sequence[Run], replicas: Replicas, jit: bool = False
    ) -> None:
        subject = runs[0].subject
        bound = [a.bind(stage, run) for a, run in zip(analyses, runs, strict=True)]
        needs = [() if own else tuple(a.needs(run)) for a, own, run in zip(analyses, bound, runs, strict=True)]
        names = [name for name in subject.taps if any(name in need for need in needs)]
        model = subject.expose(names) if names else None

        def step(batch: Batch, constants: Sequence[Constants]) -> dict[str, Any]:
            batch = batch._replace(images=batch.images[0])
            taps = model(batch.images, training=False) if model is not None else {}
            sums: dict[str, Any] = {}
            for i, analysis in enumerate(analyses):
                if own := bound[i]:
                    part = own(batch, constants[i])
                else:
                    part = analysis.step(stage, {n: taps[n] for n in needs[i]}, batch, constants[i], runs[i])
                sums |= {f"{key}@{analysis.name}": value for key, value in part.items()}
            return sums

        self.step = replicas.summed(step, jit)

    def __call__(self, batch: Any, constants: Sequence[Constants]) -> dict[str, np.ndarray]:
        """Sums over all replicas, keys `name@analysis`."""
        return {key: value.numpy() for key, value in self.step(batch, constants).items()}


def find_not_finite(subject: Subject, images: Any) -> str | None:
    """The first tap, in depth order, that holds a NaN or an infinity for these images."""
    with np.errstate(all="ignore"):
        for name, value in subject.model(images, training=False).items():
            if not np.isfinite(value.numpy()).all():
                return name
    return None
