"""What a run would do: taps, images, expected memory and time, from one timed micro-batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tf_vitcnn import taps
from tf_vitcnn.analyses.base import PerImage, PerMinibatch
from tf_vitcnn.engine.passes import shared
from tf_vitcnn.engine.session import Session
from tf_vitcnn.subject import Subject
from tf_vitcnn.walk.plan import plan_grams, plan_images


def forecast(session: Session) -> str:
    """The lines of `--dry-run`: every analysis' taps, then every pass over the data."""
    lines = [
        f"{analysis.name}: {subject.name}: {len(chosen)} of {len(subject.taps)} taps: {taps.folded(chosen)}"
        for analysis, bound in zip(session.request.analyses, session.runs, strict=True)
        for subject, chosen in zip(session.subjects, bound.taps, strict=True)
    ]
    for group in shared(session.request.analyses, session.runs, session.budget, session.replicas):
        lines += _pass(session, group)
    return "\n".join(lines)


def _pass(session: Session, group: Sequence[int]) -> list[str]:
    analyses, runs = [session.request.analyses[i] for i in group], [session.runs[i] for i in group]
    grams = [analysis for analysis in analyses if isinstance(analysis, PerMinibatch)]
    others = [analysis for analysis in analyses if isinstance(analysis, PerImage)]
    if grams:
        plan = plan_grams(grams, runs, session.budget, session.replicas.sharing, session.replicas.kind)
        draws, count = max(analysis.draws() for analysis in grams), runs[0].images // runs[0].batch
        images, work = count * runs[0].batch * draws, 1.0
        size = f"in {count} minibatches of {runs[0].batch}" + (
            f", drawn {draws} times (--repeats)" if draws > 1 else ""
        )
    else:
        needs = dict.fromkeys(tap for analysis, run in zip(others, runs, strict=True) for tap in analysis.needs(run))
        plan = plan_images(runs[0], list(needs), session.budget, others[0], session.replicas.sharing)
        images, work, size = runs[0].images, max(analysis.passes(runs[0]) for analysis in others), ""
    forward = sum(_seconds_per_image(subject, plan.micro) for subject in session.subjects)
    minutes = forward * images * work / session.replicas.count / 60
    words = [f"{runs[0].images} images", *filter(None, [size]), f"in micro-batches of {plan.micro}"]
    return [
        f"{', '.join(analysis.name for analysis in analyses)}: {', '.join(words)}",
        f"expected memory {plan.expected / 1e9:.1f} GB; "
        f"{images} forward passes of each model, {minutes:.1f} min at least",
    ]


def _seconds_per_image(subject: Subject, micro: int) -> float:
    """A forward pass after its warm-up."""
    import tensorflow as tf

    images = tf.zeros([micro, *subject.model.inputs[0].shape[1:]])
    forward = tf.function(lambda x: list(subject.model(x, training=False).values())[-1])
    forward(images)
    begun = time.perf_counter()
    forward(images).numpy()
    return (time.perf_counter() - begun) / micro
