"""HSIC sums of one analysis over a minibatch: chunks of its views in, tap by tap, the totals' keys out.

Chunks become folded Grams at once (stats/folded.py), so that a tap's features are needed no longer than its turn. The
walk makes the chunks; several analyses may take theirs from the same walk.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.analyses.base import Extra, PerMinibatch, Run, View
from tf_vitcnn.devices import cores
from tf_vitcnn.devices.precision import in_precision
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.room import Room
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import folded, host_gram, hsic, measures, pair_noise, shares
from tf_vitcnn.stats.folded import TOGETHER
from tf_vitcnn.surgery import Likeness

Others = Sequence[tuple["GramSums", int]]  # views of other analyses, by their index there
LARGE = 4e9  # multiplications of a Gram from which all cores are called together: that takes some milliseconds


def likeness(view: View) -> Hashable:
    """Equal for views of one tap that split it alike."""
    return view.side, view.tap, len(view.keys), Likeness().of(view.split)


class GramSums:
    """The views of one analysis, what centres and scales them, and the minibatch's Grams so far."""

    def __init__(
        self, analysis: PerMinibatch, run: Run, replicas: Replicas, jit: bool = False, room: Room | None = None
    ) -> None:
        self.analysis, self.run, self.replicas = analysis, run, replicas
        rows, columns = analysis.views(run)
        self.views = [*rows, *columns]
        self.letters = "x" * len(rows) + "y" * len(columns)
        self.extra = dict(analysis.extra(run))
        self.type = tf.as_dtype(analysis.product_type())
        self.shifts: dict[int, Any] = {}
        self.offsets: dict[int, Any] = {}  # squared norm of each representation's shift
        self.scales: dict[int, Any] = {}
        self._gram = replicas.function(self._fold, jit)
        self._vectors = replicas.function(self._fold_gram, jit)
        # by what computes, not by what else the machine has
        room = room or Room.found(None, replicas.strategy, self.type == tf.bfloat16)
        self.lanes = room.lanes
        asked = replicas.kind != "CPU" or self.type == tf.bfloat16
        self._product = cores.bfloat16_product(replicas.kind, bool(room.units)) if asked else "float32"
        self._cpu = replicas.plain and self._product == "float32" and replicas.kind == "CPU"
        self._inner = replicas.summed(self._products, jit)
        self._concat = replicas.function(lambda parts: tf.concat(parts, axis=0))
        self._cut: dict[tuple[int, int], Any] = {}
        self.begin()

    def reads(self, side: int) -> set[str]:
        """The taps of one subject that it needs."""
        sources: list[View | Extra] = [*self.views, *self.extra.values()]
        return {source.tap for source in sources if source.side == side}

    def features(self, i: int, taps: Mapping[str, Any]) -> Any:
        """A view's features of some images [r, b, p] in float32."""
        view = self.views[i]
        return tf.cast(view.split(taps[view.tap]), tf.float32)

    def filed(self, i: int, taps: Mapping[str, Any], shift: Any) -> Any:
        """What the walk keeps of a view: features less the pivot, in the product's type."""
        x = self.features(i, taps)
        return x if self.as_they_are(i) else tf.cast(x - shift, self.type)

    def as_they_are(self, i: int) -> bool:
        """Whether a view is filed as it came: the host centres float32 itself, and a carried tap is not held twice."""
        return self.on_host(i) and self.type == tf.float32

    def on_host(self, i: int) -> bool:
        """Whether a view's Grams are worth the milliseconds that calling all cores takes, on a lone CPU."""
        return self._cpu and self.run.batch**2 * int(self.shifts[i].shape[-1]) >= LARGE

    def host_grams(self, chunks: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Grams [r, n, n] of centred features, and their means' squared norms [r], of chunks [r, b, p]."""
        bits = chunks if self.type == tf.float32 else [tf.bitcast(chunk, tf.uint16) for chunk in chunks]
        arrays = [np.asarray(memoryview(chunk)) for chunk in bits]  # without a copy
        rest = self.run.batch - sum(x.shape[1] for x in arrays[:-1])
        arrays[-1] = arrays[-1][:, :rest]
        rows = ([x[r] for x in arrays] for r in range(len(arrays[0])))
        with cores.at_work() as pool:
            grams, offsets = zip(*host_gram.grams(rows, pool, self.lanes), strict=True)
        return np.stack(grams), np.stack(offsets)

    def likeness(self, i: int) -> Hashable:
        """What a view is made of: views that are alike, of whatever analyses, have the same Grams."""
        return self.type, likeness(self.views[i])

    def pivot(self, i: int, taps: Mapping[str, Any], others: Others = ()) -> None:
        """Takes a view's shift and scale from the run's first images; those that are alike take them too."""
        x = self.features(i, taps)
        mean = tf.reduce_mean(x, axis=1, keepdims=True)
        self.shifts[i] = mean
        self.offsets[i] = tf.reduce_sum(tf.square(mean), axis=[1, 2])
        self.scales[i] = hsic.power_of_two(tf.reduce_mean(tf.reduce_sum(tf.square(x - mean), axis=-1)))
        for other, k in others:
            other.shifts[k], other.offsets[k], other.scales[k] = self.shifts[i], self.offsets[i], self.scales[i]

    def begin(self) -> None:
        """Forgets the minibatch before."""
        self._stacks: dict[str, dict[str, list[Any]]] = {s: {} for s in "xy"}
        self._sizes: dict[str, dict[str, list[int]]] = {s: {} for s in "xy"}
        self._norms: dict[str, list[Any]] = {"x": [], "y": []}
        self._extras: dict[str, list[Any]] = {}

    def add(self, i: int, chunks: list[Any], others: Others = ()) -> None:
        """Folds the Grams of a view from all its chunks [r, b, p] of the minibatch, for views that are alike too."""
        count, sharing = len(self.views[i].keys), ((self, i), *others)
        forms = tuple(dict.fromkeys(form for other, k in sharing for form in other.forms(k)))
        for start in range(0, count, TOGETHER):
            part = slice(start, min(start + TOGETHER, count))
            here = chunks if part == slice(0, count) else self._slices(chunks, part)
            if self.on_host(i):
                k, mean = self.host_grams(here)
                offset = mean if self.as_they_are(i) else mean + self.offsets[i][part]
                vectors, norm = self._vectors(k, self.scales[i], offset, forms)
            else:
                vectors, norm = self._gram(here, self.scales[i], self.offsets[i][part], forms)
            for other, place in sharing:
                other.keep(place, part.stop - part.start, vectors, norm)

    def keep(self, i: int, size: int, vectors: Mapping[str, Any], norm: Any) -> None:
        """Puts `size` representations of a view on its stacks."""
        letter = self.letters[i]
        for form in self.forms(i):
            self._stacks[letter].setdefault(form, []).append(vectors[form])
            self._sizes[letter].setdefault(form, []).append(size)
        self._norms[letter].append(norm)

    def add_extra(self, name: str, value: Any) -> None:
        """Files a micro-batch's sums of per-image values by group."""
        self._extras.setdefault(name, []).append(value)

    def finish(self, draw: Any, present: Any, groups: Sequence[Any]) -> dict[str, np.ndarray]:
        """The minibatch's sums over all replicas, and an end of it; `groups` are its images', chunk by chunk."""
        joined = {s: {form: self._joined(s, form) for form in self._stacks[s]} for s in "xy"}
        norms, extras = self._norms, self._extras
        self.begin()
        with in_precision():
            found = self._inner(joined, norms, extras, draw, present, list(groups))
        out = {key: value.numpy() for key, value in found.items()}
        self._refuse_not_finite(out)
        del joined
        return _by_host(out)

    def _slices(self, chunks: list[Any], part: slice) -> list[Any]:
        key = (part.start, part.stop)
        if key not in self._cut:
            self._cut[key] = self.replicas.function(lambda all_of_tap: [x[part] for x in all_of_tap])
        return self._cut[key](chunks)

    def forms(self, i: int) -> tuple[str, ...]:
        """What is made of a view's Grams."""
        return (*self.analysis.centrings(), *self.views[i].also)

    def _joined(self, letter: str, form: str) -> list[Any]:
        blocks = self._stacks[letter][form]
        groups = [blocks[part] for part in folded.joined(self._sizes[letter][form])]
        return [group[0] if len(group) == 1 else self._concat(group) for group in groups]

    def _fold(self, chunks: list[Any], scale: Any, offset: Any, forms: Sequence[str]) -> tuple[dict[str, Any], Any]:
        return folded.grams(chunks, self.run.batch, scale, offset, forms, self._product)

    def _fold_gram(self, k: Any, scale: Any, offset: Any, forms: Sequence[str]) -> tuple[dict[str, Any], Any]:
        return folded.vectors(k, scale, offset, forms)

    def _products(self, stacks: Any, norms: Any, extras: Any, draw: Any, present: Any, groups: Any) -> dict[str, Any]:
        def here(value: Any) -> Any:
            # a replica without a minibatch computed on repeats of the first image: drop, whatever it is
            return tf.where(present > 0, value, tf.zeros_like(value))

        wanted, n = self.analysis.products(self.run), self.run.batch
        of_draw = tf.one_hot(draw, self.analysis.draws()) * present  # [draw]
        sums = {"count": of_draw}
        group = tf.concat(groups, axis=0)[:n]
        for form in stacks["x"]:
            x, y = stacks["x"][form], stacks["y"].get(form, [])
            if folded.FORMS[form].by_host:
                given = {"x": x, "y": y} if y else {"x": x}
                sums |= {f"rows/{form}/{side}": here(tf.concat(stack, axis=0)) for side, stack in given.items()}
                sums[f"rows/{form}/draw"] = of_draw[tf.newaxis]
                continue
            prefix = "" if form == "u" else f"{form}/"
            for key, value in folded.sums(form, x, y, n, wanted).items():
                sums[prefix + key] = tf.tensordot(of_draw, here(value), axes=0)
            sums |= {key: here(value) for key, value in self._for_errors(form, prefix, x, y, group).items()}
        if pairs := self.analysis.pairs_of_images(self.run):
            sums |= {f"rows/{key}": here(value) for key, value in _of_images(stacks, n, pairs).items()}
        sums["groups/images"] = here(tf.math.unsorted_segment_sum(tf.ones([n]), group, shares.GROUPS))
        for side in "xy":
            if norms[side]:
                sums[f"norm_{side}"] = here(tf.concat(norms[side], axis=-1))
        return sums | {f"groups/{name}": here(tf.add_n(values)) for name, values in extras.items()}

    def _for_errors(self, form: str, prefix: str, x: Any, y: Any, group: Any) -> dict[str, Any]:
        """What errors over images are made of."""
        wanted, n = self.analysis.products(self.run), self.run.batch
        found: dict[str, Any] = {}
        if form in folded.GROUPED:
            flat = folded.FORMS[form].vector is measures.flat
            parts = shares.shares(x, y, n, group, wanted, flat=flat)
            found |= {f"groups/{prefix}{key}": value for key, value in parts.items()}
        if form == "u" and "pairs" in wanted:
            found |= {f"pairs/{key}": value for key, value in pair_noise.moments(x, y, n, wanted).items()}
        return found

    def _refuse_not_finite(self, sums: Mapping[str, np.ndarray]) -> None:
        for letter in "xy":
            bad = ~np.isfinite(sums.get(f"norm_{letter}", np.zeros((2, 0)))).all(axis=0)
            if bad.any():
                keys = [(v, k) for s, v in zip(self.letters, self.views, strict=True) if s == letter for k in v.keys]
                view, key = keys[int(np.flatnonzero(bad)[0])]
                name = self.run.subjects[view.side].name
                raise BadInput(f"{name}: tap {view.tap} ({key}) holds NaN or infinity")


def _by_host(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sums, with what the host makes of stacks [r l, f] in the place of these: one minibatch after the other."""
    for name, form in folded.FORMS.items():
        if form.by_host and f"rows/{name}/draw" in sums:
            of_draw = sums.pop(f"rows/{name}/draw")  # [r, draw]
            sides = [np.split(sums.pop(key), len(of_draw)) for s in "xy" if (key := f"rows/{name}/{s}") in sums]
            with tf.device("CPU:0"):
                made = np.stack([form.by_host(*each).numpy() for each in zip(*sides, strict=True)])
            sums[f"{name}/xy"] = np.einsum("rd,rij->dij", of_draw, made)
    return sums


def _of_images(stacks: Any, n: int, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Each image's shares of some pairs of representations: [n, pairs] of xy, xx and yy, and that it appeared."""
    x, y = stacks["x"]["u"], stacks["y"].get("u") or stacks["x"]["u"]
    left, right = (folded.chosen(s, [pair[side] for pair in pairs]) for side, s in ((0, x), (1, y)))
    found = shares.shares([left], [right], n, tf.range(n), frozenset({"matching"}), groups=n)
    return found | {"appearances": tf.ones([n])}
