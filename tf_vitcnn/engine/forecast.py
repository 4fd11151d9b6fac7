"""What a run would do: taps, images, expected memory and time, from one timed micro-batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tf_vitcnn import taps
from tf_vitcnn.analyses.base import PerImage, PerMinibatch
from tf_vitcnn.engine.passes import shared
from tf_vitcnn.engine.session import Session
from tf_vitcnn.subject import Subject
from tf_vitcnn.walk.plan import features, plan_grams, plan_images

LONG = 5.0  # minutes, from which on they are said before


def forecast(session: Session) -> str:
    """The lines of `--dry-run`: every analysis' taps, then every pass over the data."""
    lines = [
        f"{analysis.name}: {subject.name}: {len(chosen)} of {len(subject.taps)} taps: {taps.folded(chosen)}"
        for analysis, bound in zip(session.request.analyses, session.runs, strict=True)
        for subject, chosen in zip(session.subjects, bound.taps, strict=True)
    ]
    return "\n".join([*lines, *(line for each in passes(session) for line in each.lines())])


def slow(session: Session) -> list[str]:
    """A line for each analysis of many passes that takes long on this machine, and what takes less."""
    lines = []
    for i, (analysis, bound) in enumerate(zip(session.request.analyses, session.runs, strict=True)):
        passes = analysis.passes(bound) if isinstance(analysis, PerImage) else 1.0
        if passes <= 1 or (minutes := _pass(session, [i]).minutes) < LONG:
            continue
        flags, less = analysis.shorter() if isinstance(analysis, PerImage) else ("", None)
        share = less.passes(bound) / passes if less else 1.0
        advice = f"; {flags} takes about {minutes * share:.0f}" if share < 1 else ""
        lines.append(f"{analysis.name}: about {minutes:.0f} min on this machine{advice}")
    return lines


@dataclass(frozen=True)
class Pass:
    """One pass over the data, shared by the analyses that can."""

    names: str
    images: str  # in words
    forwards: int  # forward passes of each model, or what takes as long
    memory: float  # bytes
    minutes: float  # of forward passes and of the products of Grams; the rest comes on top

    def lines(self) -> list[str]:
        """In words."""
        return [
            f"{self.names}: {self.images}",
            f"expected memory {self.memory / 1e9:.1f} GB; "
            f"{self.forwards} forward passes of each model, {self.minutes:.1f} min at least",
        ]


def passes(session: Session) -> list[Pass]:
    """Every pass over the data that a session's analyses take, in order."""
    groups = shared(session.request.analyses, session.runs, session.budget, session.replicas)
    return [_pass(session, group) for group in groups]


def _pass(session: Session, group: Sequence[int]) -> Pass:
    analyses, runs = [session.request.analyses[i] for i in group], [session.runs[i] for i in group]
    grams = [analysis for analysis in analyses if isinstance(analysis, PerMinibatch)]
    others = [analysis for analysis in analyses if isinstance(analysis, PerImage)]
    products = 0.0
    if grams:
        plan = plan_grams(grams, runs, session.budget, session.replicas.sharing, session.replicas.kind)
        draws, count = max(analysis.draws() for analysis in grams), runs[0].images // runs[0].batch
        images, work = count * runs[0].batch * draws, 1.0
        size = f"in {count} minibatches of {runs[0].batch}" + (
            f", drawn {draws} times (--repeats)" if draws > 1 else ""
        )
        # half of each product: a Gram is symmetric
        products = features(grams, runs) * runs[0].batch * _seconds_per_product(runs[0].batch)
    else:
        needs = dict.fromkeys(tap for analysis, run in zip(others, runs, strict=True) for tap in analysis.needs(run))
        plan = plan_images(
            runs[0], list(needs), session.budget, others[0], session.replicas.sharing, session.replicas.kind
        )
        images, work, size = runs[0].images, max(analysis.passes(runs[0]) for analysis in others), ""
    forward = sum(_seconds_per_image(subject, plan.micro) for subject in session.subjects)
    minutes = (forward * work + products / 2) * images / session.replicas.count / 60
    words = [f"{runs[0].images} images", *filter(None, [size]), f"in micro-batches of {plan.micro}"]
    names = ", ".join(analysis.name for analysis in analyses)
    return Pass(names, ", ".join(words), images, plan.expected, minutes)


def _seconds_per_image(subject: Subject, micro: int) -> float:
    """A forward pass after its warm-up."""
    import tensorflow as tf

    images = tf.zeros([micro, *subject.model.inputs[0].shape[1:]])
    forward = tf.function(lambda x: list(subject.model(x, training=False).values())[-1])
    return _seconds(lambda: forward(images)) / micro


def _seconds_per_product(n: int) -> float:
    """One multiplication and addition inside X X^T of n images."""
    import tensorflow as tf

    width = 2**13
    x = tf.ones([n, width])
    return _seconds(lambda: tf.matmul(x, x, transpose_b=True)) / (n * n * width)


def _seconds(compute: Callable[[], Any]) -> float:
    """How long it takes once it is warm."""
    compute().numpy()
    begun = time.perf_counter()
    compute().numpy()
    return time.perf_counter() - begun
