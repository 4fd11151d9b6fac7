"""Drives a subject over images: one pass, one tap's minibatch in memory at a time, sums out.

Two ways. `PerImageWalk` runs one `tf.function` (model, taps, sums) per micro-batch. `GramWalk` takes a minibatch
through the segments of the subject's graph: one segment over all micro-batches, each tap's chunks turned into its
folded Gram and dropped, on with the carry. So a minibatch of any size costs the memory of one segment.
The walk knows no analysis; it asks for taps, views and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn import surgery
from tf_vitcnn.analyses.base import GROUPS, Batch, Constants, Extra, PerImage, PerMinibatch, Run, Stage
from tf_vitcnn.devices import Replicas
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import hsic
from tf_vitcnn.subject import Subject

PIVOT = 16  # images whose mean is subtracted from all: enough to take a common offset away
TOGETHER = 64  # representations whose Grams are centred in one call, and stacked in one block


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


Stack = list[Any]  # blocks [<= TOGETHER + r, f] of folded Grams, on their replicas


class GramWalk:
    """HSIC sums of whole minibatches, by `step`; `grams` yields one tap's Grams after the other."""

    def __init__(
        self,
        analysis: PerMinibatch,
        run: Run,
        replicas: Replicas,
        budget: Callable[[int], float | None] = lambda side: None,
        jit: bool = False,
    ) -> None:
        self.analysis, self.run, self.replicas, self.jit = analysis, run, replicas, jit
        self.groups = max(GROUPS, analysis.draws())
        rows, columns = analysis.views(run)
        self.sides = ["x"] * len(rows) + ["y"] * len(columns)
        self.views = [*rows, *columns]
        self.extra = dict(analysis.extra(run))
        self.type = tf.as_dtype(analysis.product_type())
        reads = [*((v.side, v.tap) for v in self.views), *((e.side, e.tap) for e in self.extra.values())]
        wanted = [{tap for where, tap in reads if where == side} for side in (0, 1)]
        self.chain: list[Part] = []
        for side, subject in enumerate(run.subjects):
            if wanted[side]:
                self.chain.append(Part(self, side, None))
                names = [name for name in subject.taps if name in wanted[side]]
                pieces = surgery.segments(subject.model, names, budget(side)) if names else []
                self.chain.extend(Part(self, side, piece) for piece in pieces)
        self._gram = replicas.function(self._fold, jit)
        self._inner = replicas.summed(self._products, jit)
        self._cut: dict[tuple[int, int], Any] = {}
        self.shifts: dict[int, Any] = {}
        self.offsets: dict[int, Any] = {}  # squared norm of each representation's shift
        self.scales: dict[int, Any] = {}

    @property
    def stages(self) -> int:
        """How many calls of `tick` one minibatch makes."""
        return len(self.chain)

    def prepare(self, images: Sequence[Any]) -> None:
        """Pivots and scales, from the first images of the run: every batch, replica and worker shares them."""
        carry: Any = None
        for part in self.chain:
            carry = images[part.side][:PIVOT] if part.segment is None else carry
            taps, carry = part.taps(carry)
            for i in part.mine:
                view = self.views[i]
                x = tf.cast(view.split(taps[view.tap]), tf.float32)  # [r, b, p]
                mean = tf.reduce_mean(x, axis=1, keepdims=True)
                self.shifts[i] = mean
                self.offsets[i] = tf.reduce_sum(tf.square(mean), axis=[1, 2])
                self.scales[i] = hsic.power_of_two(x - mean)

    def grams(
        self, chunks: Sequence[Batch], tick: Callable[[str], None] = lambda stage: None
    ) -> Iterator[tuple[int, Any, Any]]:
        """(view's index, folded Grams {centring: [r, f]}, norms [2, r]) of a minibatch, tap by tap.

        `chunks` are its micro-batches, each on its replica, with one tensor of images per subject.
        """
        carry: list[Any] = []
        for part in self.chain:
            if part.segment is None:
                carry = [part.begin(chunk) for chunk in chunks]
            filed: dict[int, list[Any]] = {i: [] for i in part.mine}
            shifts = [self.shifts[i] for i in part.mine]
            for c, chunk in enumerate(chunks):
                out, extras, carry[c] = part.step(carry[c], chunk.weight, shifts)
                for i, x in zip(part.mine, out, strict=True):
                    filed[i].append(x)
                for name, value in extras.items():
                    self._extras.setdefault(name, []).append(value)
                del out
            for i in part.mine:
                yield from self._tap(i, filed.pop(i))
            tick(f"{self.run.subjects[part.side].name}: {part.label}")

    def _tap(self, i: int, chunks: list[Any]) -> Iterator[tuple[int, Any, Any]]:
        count = len(self.views[i].keys)
        for start in range(0, count, TOGETHER):
            size = min(TOGETHER, count - start)
            part = slice(start, start + size)
            here = chunks if size == count else self._slices(chunks, part)
            yield i, *self._gram(here, self.scales[i], self.offsets[i][part])

    def _slices(self, chunks: list[Any], part: slice) -> list[Any]:
        key = (part.start, part.stop)
        if key not in self._cut:
            self._cut[key] = self.replicas.function(lambda all_of_tap: [x[part] for x in all_of_tap])
        return self._cut[key](chunks)

    def _fold(self, chunks: Sequence[Any], scale: Any, offset: Any) -> tuple[Any, Any]:
        """Folded Grams {centring: [r, f]} and norms [2, r], centred and not, of one tap's chunks [r, b, p]."""
        n = self.run.batch
        rest = n - (len(chunks) - 1) * int(chunks[0].shape[1])
        k = hsic.gram([*chunks[:-1], chunks[-1][:, :rest]]) * scale**2
        trace = tf.linalg.trace(k)
        # the trace of H K H: what centring leaves of the norm
        centred = trace - tf.reduce_sum(k, axis=[1, 2]) / n
        centre = {"u": hsic.u_centre, "biased": hsic.double_centre}
        folded = {name: hsic.fold(centre[name](k)) for name in self.analysis.centrings()}
        return folded, tf.stack([centred, trace + n * offset * scale**2])

    def step(
        self,
        chunks: Sequence[Batch],
        group: Any,
        present: Any,
        tick: Callable[[str], None] = lambda stage: None,
    ) -> dict[str, np.ndarray]:
        """Sums of one minibatch per replica, over all replicas: the totals' keys (see `products`)."""
        self._extras: dict[str, list[Any]] = {}
        stacks: dict[str, dict[str, Stack]] = {side: {c: [] for c in self.analysis.centrings()} for side in "xy"}
        norms: dict[str, list[Any]] = {"x": [], "y": []}
        for i, folded, norm in self.grams(chunks, tick):
            for centring, vectors in folded.items():
                stacks[self.sides[i]][centring].append(vectors)
            norms[self.sides[i]].append(norm)
        # a list of small blocks multiplies slowly: join until each holds TOGETHER rows
        joined = {s: {c: [self._join(g) for g in _grouped(b)] for c, b in stacks[s].items()} for s in stacks}
        sums = self._inner(joined, norms, self._extras, group, present)
        out = {key: value.numpy() for key, value in sums.items()}
        self._refuse_not_finite(out)
        return out

    def _join(self, blocks: Sequence[Any]) -> Any:
        if len(blocks) == 1:
            return blocks[0]
        if not hasattr(self, "_concat"):
            self._concat = self.replicas.function(lambda parts: tf.concat(parts, axis=0))
        return self._concat(list(blocks))

    def _products(self, stacks: Any, norms: Any, extras: Any, group: Any, present: Any) -> dict[str, Any]:
        wanted = self.analysis.products(self.run)
        here = tf.one_hot(group, self.groups) * present  # [G]
        sums = {"count": here}
        for centring in self.analysis.centrings():
            x, y = (stacks[side][centring] for side in "xy")
            pairs = _matching if "matching" in wanted else _inner
            xy = pairs(x, y) if y else _inner_symmetric(x)
            named = {"xy": xy, "xx": _own(x) if y else tf.linalg.diag_part(xy)}
            if y:
                named["yy"] = _own(y)
                named |= {f"{key}_full": _inner_symmetric(s) for key, s in (("xx", x), ("yy", y)) if key in wanted}
            scale = 1.0 / hsic.normaliser(self.run.batch, centring == "biased")
            prefix = "" if centring == "u" else f"{centring}/"
            for key, value in named.items():
                # a replica without a minibatch computed on repeats of the first image: drop, whatever it is
                value = tf.where(present > 0, value * scale, tf.zeros_like(value))
                sums[prefix + key] = tf.tensordot(here, value, axes=0)
        for side in "xy":
            if norms[side]:
                value = tf.concat(norms[side], axis=-1)
                sums[f"norm_{side}"] = tf.where(present > 0, value, tf.zeros_like(value))
        for name, values in extras.items():
            sums[f"extra/{name}"] = tf.tensordot(here, tf.add_n(values), axes=0)
        if extras:
            sums["extra/images"] = here * float(self.run.batch)
        return sums

    def _refuse_not_finite(self, sums: Mapping[str, np.ndarray]) -> None:
        for side in "xy":
            bad = ~np.isfinite(sums.get(f"norm_{side}", np.zeros((2, 0)))).all(axis=0)
            if bad.any():
                keys = [(v, k) for s, v in zip(self.sides, self.views, strict=True) if s == side for k in v.keys]
                view, key = keys[int(np.flatnonzero(bad)[0])]
                name = self.run.subjects[view.side].name
                raise BadInput(f"{name}: tap {view.tap} ({key}) holds NaN or infinity")


class Part:
    """One segment of one subject with the views it feeds; without a segment: the images themselves."""

    def __init__(self, walk: GramWalk, side: int, segment: Any) -> None:
        self.walk, self.side, self.segment = walk, side, segment
        here = {"images"} if segment is None else set(segment.taps)
        self.mine = [i for i, v in enumerate(walk.views) if v.side == side and v.tap in here]
        self.extras = {n: e for n, e in walk.extra.items() if e.side == side and e.tap in here}
        self.label = "images" if segment is None else (list(segment.taps) or ["..."])[-1]
        self.step = walk.replicas.function(self._step, walk.jit)

    def begin(self, chunk: Any) -> Any:
        """This side's images of a micro-batch, on their replicas."""
        if isinstance(chunk, Batch) and isinstance(chunk.images, tuple):
            return chunk.images[self.side]
        raise TypeError(f"expected a Batch, got {type(chunk)}")

    def taps(self, carry: Any) -> tuple[dict[str, Any], Any]:
        """The tensors that this part files, and what it hands on."""
        if self.segment is None:
            return {"images": carry}, carry
        return self.segment(carry)

    def _step(self, carry: Any, weight: Any, shifts: Sequence[Any]) -> tuple:
        taps, carry = self.taps(carry)
        out = []
        for i, shift in zip(self.mine, shifts, strict=True):
            view = self.walk.views[i]
            x = tf.cast(view.split(taps[view.tap]), tf.float32)  # [r, b, p]
            # centred before the product: float32 Grams of offset features cancel
            out.append(tf.cast(x - shift, self.walk.type))
        return out, {name: self._sum(extra, taps, weight) for name, extra in self.extras.items()}, carry

    def _sum(self, extra: Extra, taps: Mapping[str, Any], weight: Any) -> Any:
        values = extra.values(taps[extra.tap])
        return tf.tensordot(weight, values, axes=1)


def _grouped(blocks: Sequence[Any]) -> list[list[Any]]:
    """Neighbouring blocks in groups of about TOGETHER rows."""
    groups: list[list[Any]] = []
    rows = TOGETHER
    for block in blocks:
        size = _rows(block)
        if rows + size > TOGETHER:
            groups.append([])
            rows = 0
        groups[-1].append(block)
        rows += size
    return groups


def _rows(block: Any) -> int:
    local = block.values[0] if hasattr(block, "values") and not tf.is_tensor(block) else block
    return int(local.shape[0])


def _own(blocks: Stack) -> Any:
    return tf.concat([tf.reduce_sum(tf.square(b), axis=-1) for b in blocks], axis=0)


def _matching(x: Stack, y: Stack) -> Any:
    return tf.concat([tf.reduce_sum(a * b, axis=-1) for a, b in zip(x, y, strict=True)], axis=0)


def _inner(x: Stack, y: Stack) -> Any:
    rows = [tf.concat([tf.linalg.matmul(a, b, transpose_b=True) for b in y], axis=1) for a in x]
    return tf.concat(rows, axis=0)


def _inner_symmetric(x: Stack) -> Any:
    upper = [[tf.linalg.matmul(a, b, transpose_b=True) for b in x[i:]] for i, a in enumerate(x)]
    rows = [
        tf.concat([*(tf.transpose(upper[j][i - j]) for j in range(i)), *row], axis=1) for i, row in enumerate(upper)
    ]
    return tf.concat(rows, axis=0)


def grams(subject: Subject, minibatch: Any, taps: Sequence[str], micro: int = 64) -> Iterator[tuple[str, np.ndarray]]:
    """(tap, X Xᵀ [n, n] of its centred features) for preprocessed images [n, h, w, 3], one tap in memory at a time."""
    n = int(minibatch.shape[0])
    for segment, carry in _chain(subject, minibatch, taps, micro):
        filed: dict[str, list[Any]] = {name: [] for name in segment.taps}
        call = tf.function(segment)
        for c, chunk in enumerate(carry):
            out, carry[c] = call(chunk)
            for name, value in out.items():
                filed[name].append(value)
        for name in list(filed):
            x = tf.concat([tf.reshape(v, [v.shape[0], -1]) for v in filed.pop(name)], axis=0)
            assert x.shape[0] == n
            x = x - tf.reduce_mean(x, axis=0)
            yield name, hsic.gram([x[None, i : i + hsic.BLOCK] for i in range(0, n, hsic.BLOCK)])[0].numpy()


def _chain(subject: Subject, images: Any, taps: Sequence[str], micro: int) -> Iterator[tuple[Any, list[Any]]]:
    carry = [images[i : i + micro] for i in range(0, int(images.shape[0]), micro)]
    for segment in surgery.segments(subject.model, list(taps)):
        yield segment, carry
