"""One pass of whole minibatches, one tap in memory at a time: Gram sums out.

A minibatch goes through the segments of the subject's graph: one segment over all micro-batches, each tap's chunks
handed to the analyses that asked for it (gram_sums.py) and dropped, on with the carry. So a minibatch of any size
costs the memory of one segment.
The walk knows no analysis; it asks for taps, views and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_vitcnn import surgery
from tf_vitcnn.analyses.base import Batch, Extra, PerMinibatch, Run, View, grouped
from tf_vitcnn.devices.precision import in_precision
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.stats import hsic
from tf_vitcnn.subject import Subject
from tf_vitcnn.walk.gram_sums import GramSums, Others

PIVOT = 16  # images whose mean is subtracted from all: enough to take a common offset away


class GramWalk:
    """One pass of minibatches through the segments, for all analyses that share it."""

    def __init__(
        self,
        all_sums: Sequence[GramSums],
        replicas: Replicas,
        budget: Callable[[int], float | None] = lambda side: None,
        jit: bool = False,
    ) -> None:
        self.sums = list(all_sums)
        self.chain: list[Part] = []
        for side, subject in enumerate(self.sums[0].run.subjects):
            wanted = {tap for sums in self.sums for tap in sums.reads(side)}
            if wanted:
                names = [name for name in subject.taps if name in wanted]
                pieces = surgery.segments(subject.model, names, budget(side)) if names else []
                self.chain += [Part(self.sums, side, piece, replicas, jit) for piece in (None, *pieces)]
        shared: dict[Hashable, Any] = {}
        for part in self.chain:
            part.step = shared.setdefault(part.likeness, part.step)  # traced and compiled once for all that are alike
        self.programs = len(shared)

    @property
    def stages(self) -> int:
        """How many calls of `tick` one minibatch makes."""
        return len(self.chain)

    def prepare(self, images: Sequence[Any]) -> None:
        """Pivots and scales, from the first images of the run: every batch, replica and worker shares them."""
        carry: Any = None
        for part in self.chain:
            if part.segment is None:
                count = self.sums[0].run.subjects[part.side].at_once
                carry = _exactly(images[part.side], count) if count else images[part.side][:PIVOT]
            taps, carry = part.taps(carry)
            for sums, i, others in part.views:
                sums.pivot(i, taps, others)

    def step(
        self,
        chunks: Sequence[Batch],
        draws: Sequence[Any],
        present: Sequence[Any],
        tick: Callable[[str], None] = lambda stage: None,
    ) -> dict[str, np.ndarray]:
        """Sums of one minibatch per replica, over all replicas, keys `name@analysis`.

        `chunks` are its micro-batches, each on its replica, with one tensor of images per subject, their roles being
        the images' groups; each analysis counts its own draws, and says whether the minibatch is one of its own.
        """
        for sums, i, others, filed in self.features(chunks, tick):
            with in_precision():  # whatever the network's own products run in
                sums.add(i, filed, others)
            del filed  # not kept while the next segment runs
        found: dict[str, np.ndarray] = {}
        groups = [chunk.role for chunk in chunks]
        for sums, draw, here in zip(self.sums, draws, present, strict=True):
            found |= {f"{key}@{sums.analysis.name}": value for key, value in sums.finish(draw, here, groups).items()}
        return found

    def features(
        self, chunks: Sequence[Batch], tick: Callable[[str], None] = lambda stage: None
    ) -> Iterator[tuple[GramSums, int, Others, list[Any]]]:
        """(analysis, view's index, the others', the view's chunks [r, b, p] as filed) of a minibatch, tap by tap."""
        carry: list[Any] = []
        for part in self.chain:
            if part.segment is None:
                carry = [chunk.images[part.side] for chunk in chunks]
            filed: list[list[Any]] = [[] for _ in part.views]
            shifts = [sums.shifts[i] for sums, i, _ in part.views]
            for c, chunk in enumerate(chunks):
                out, extras, carry[c] = part.step(part.weights, carry[c], chunk.weight, chunk.role, shifts)
                for kept, x in zip(filed, out, strict=True):
                    kept.append(x)
                for (sums, name), value in zip(part.extras, extras, strict=True):
                    sums.add_extra(name, value)
                del out
            for sums, i, others in part.views:
                yield sums, i, others, filed.pop(0)
            tick(f"{self.sums[0].run.subjects[part.side].name}: {part.label}")


class Part:
    """One segment of one subject with the views it feeds; without a segment: the images themselves."""

    def __init__(self, all_sums: Sequence[GramSums], side: int, segment: Any, replicas: Replicas, jit: bool) -> None:
        self.side, self.segment = side, segment
        here = ("images",) if segment is None else segment.taps

        def mine(source: View | Extra) -> bool:
            return source.side == side and source.tap in here

        alike: dict[Hashable, list[tuple[GramSums, int]]] = {}
        for sums in all_sums:
            for i in (i for i, view in enumerate(sums.views) if mine(view)):
                alike.setdefault(sums.likeness(i), []).append((sums, i))
        # analyses that ask for the same Grams have them made once: by the first, for the others
        self.views = [(*first, others) for first, *others in alike.values()]
        self.extras = [(sums, name) for sums in all_sums for name, extra in sums.extra.items() if mine(extra)]
        self.label = "images" if segment is None else (list(segment.taps) or ["..."])[-1]
        made, self._variables = segment.likeness if segment else (None, [])
        self.likeness = (made, self._filing(here))
        self.weights = replicas.values(self._variables)
        self.step = replicas.function(self._step, jit)

    def _filing(self, here: Sequence[str]) -> Hashable:
        """What is made of the taps, by their place in the segment."""
        views = [(sums, sums.views[i].tap, (len(sums.views[i].keys), sums.views[i].split)) for sums, i, _ in self.views]
        extras = [(sums, sums.extra[name].tap, (name, sums.extra[name].values)) for sums, name in self.extras]
        return tuple((id(sums), here.index(tap), surgery.Likeness().of(how)) for sums, tap, how in (*views, *extras))

    def taps(self, carry: Any) -> tuple[dict[str, Any], Any]:
        """The tensors that this part files, and what it hands on."""
        if self.segment is None:
            return {"images": carry}, carry
        return self.segment(carry)

    def _step(
        self, values: Any, carry: Any, weight: Any, group: Any, shifts: Sequence[Any]
    ) -> tuple[list[Any], list[Any], Any]:
        """Views as filed, sums of extras, and the carry of one micro-batch; `values` are those of the weights."""
        with keras.StatelessScope(list(zip(self._variables, values, strict=True))):
            taps, carry = self.taps(carry)
        # centred before the product: float32 Grams of offset features cancel
        out = [sums.filed(i, taps, shift) for (sums, i, _), shift in zip(self.views, shifts, strict=True)]
        extras = [sums.extra[name] for sums, name in self.extras]
        return out, [grouped(e.values(taps[e.tap]), weight, group) for e in extras], carry


def _exactly(images: Any, count: int) -> Any:
    """So many images: the first ones, again from the start where there are fewer."""
    return tf.gather(images, np.arange(count) % images.shape[0])


@dataclass(frozen=True)
class _Flat(PerMinibatch):
    """Every chosen tap, flattened: what `grams` asks for."""

    def views(self, run: Run) -> tuple[Sequence[View], Sequence[View]]:
        return [View(0, tap, (tap,), lambda x: tf.reshape(x, [1, x.shape[0], -1])) for tap in run.taps[0]], ()


def grams(subject: Subject, minibatch: Any, taps: Sequence[str], micro: int = 64) -> Iterator[tuple[str, np.ndarray]]:
    """(tap, X Xᵀ [n, n] of its centred features) for preprocessed images [n, h, w, 3], one tap in memory at a time."""
    images, replicas = tf.convert_to_tensor(minibatch), Replicas(tf.distribute.get_strategy())
    sums = GramSums(_Flat(), Run((subject,), (tuple(taps),), batch=int(images.shape[0])), replicas)
    walk = GramWalk([sums], replicas)
    walk.prepare([images])
    pieces = [images[i : i + micro] for i in range(0, int(images.shape[0]), micro)]
    chunks = [
        Batch((piece,), None, (one := tf.ones(piece.shape[0])), None, tf.zeros_like(one, tf.int32)) for piece in pieces
    ]
    for _, i, _, filed in walk.features(chunks):
        gram = sums.host_grams(filed)[0] if sums.on_host(i) else hsic.gram(filed)
        yield sums.views[i].tap, hsic.double_centre(gram)[0].numpy()
        del filed
