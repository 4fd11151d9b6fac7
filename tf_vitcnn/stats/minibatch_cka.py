"""CKA, and measures beside it, of activations that a caller has: a Keras metric over minibatches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_vitcnn.devices import cores
from tf_vitcnn.devices.precision import in_precision
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.stats import folded, host_gram, hsic, measures, pair_noise, shares
from tf_vitcnn.stats.folded import TOGETHER
from tf_vitcnn.stats.resample import GROUPS, standard_error

FORMS = {"cka": "u", "rsa": "rsa", "knn": "knn"}  # what stands for a Gram in a measure's sums (folded.FORMS)


class MinibatchCKA(keras.metrics.Metric):
    """CKA between all layers' activations, accumulated over minibatches.

        metric = MinibatchCKA()
        metric.update_state([layer_1, layer_2, ...])     # each [n, ...], the same n >= 4 examples
        metric.result()                                  # [l, l], NaN where a layer is constant
        metric.result(errors=True)                       # the same, and how far other examples would move it [l, l]

    With `others`, rows are `activations` and columns are `others`. Errors take every example for another one, in
    twenty groups by its place in all that came. `measures` adds `rsa` and `knn` (stats/measures.py) from the same
    Grams: `result(measure="rsa")`.
    """

    def __init__(
        self, precision: str = "float32", name: str = "minibatch_cka", measures: Sequence[str] = ("cka",)
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise BadInput(f"unknown precision {precision!r}; available: float32, bfloat16")
        for measure in measures:
            if measure not in FORMS:
                raise unknown("measure", measure, FORMS)
        super().__init__(name=name)
        self.precision, self.measures = precision, tuple(measures)
        self._sums: dict[str, np.ndarray] | None = None
        self._scales: list[Any] = []
        self._counts: list[int] = []

    def update_state(self, activations: Sequence[Any], others: Sequence[Any] | None = None) -> None:
        """Adds one minibatch."""
        sides = [list(activations)] if others is None else [list(activations), list(others)]
        sizes = {int(layer.shape[0]) for side in sides for layer in side}
        least = 2 + measures.NEIGHBOURS if "knn" in self.measures else 4
        if len(sizes) != 1 or min(sizes) < least:
            raise BadInput(f"{self._called()} needs the same n >= {least} examples in every layer, not {sorted(sizes)}")
        counts = [len(side) for side in sides]
        if self._scales and counts != self._counts:
            here, first = (" + ".join(map(str, each)) for each in (counts, self._counts))
            raise BadInput(f"this minibatch has {here} layers, the first one had {first}")
        blocks = [side[i : i + TOGETHER] for side in sides for i in range(0, len(side), TOGETHER)]
        scales, folds = list(self._scales), list[tuple[Any, Any]]()
        for i, block in enumerate(blocks):
            grams, offsets = self._grams([_rows(layer) for layer in block])
            if not self._scales:
                scales.append(tf.stack([hsic.power_of_two(np.trace(gram) / len(gram)) for gram in np.asarray(grams)]))
            folds.append(_folded(grams, scales[i], offsets, tuple(FORMS[measure] for measure in self.measures)))
        self._scales, self._counts = scales, counts
        split, n = math.ceil(counts[0] / TOGETHER), sizes.pop()
        sums = self._groups(n)
        for measure in self.measures:
            vectors = [fold[FORMS[measure]] for fold, _ in folds]
            sums |= self._added(measure, vectors[:split], vectors[split:], n)
        sums["norms"] = np.concatenate([norm.numpy().T.astype(np.float64) for _, norm in folds])
        self._sums = sums if self._sums is None else {k: self._sums[k] + v for k, v in sums.items()}

    def result(self, errors: bool = False, measure: str | None = None) -> Any:
        """The (first) measure [l, l'] of everything since the last reset; with its standard errors if wanted."""
        if self._sums is None:
            raise BadInput("no minibatch yet: call update_state first")
        measure = measure or self.measures[0]
        if measure not in self.measures:
            raise unknown("measure of this metric", measure, self.measures)
        own = "yy" if f"{measure}/yy" in self._sums else "xx"
        xy, xx, yy = (self._sums[f"{measure}/{key}"] for key in ("xy", "xx", own))
        constant = hsic.constant(self._sums["norms"].T)
        columns = constant[len(xy) :] if own == "yy" else constant
        xx, yy = np.where(constant[: len(xy)], np.nan, xx), np.where(columns, np.nan, yy)
        # what unrelated layers share of their neighbours counts for nothing
        chance = measures.NEIGHBOURS * self._sums["count"] / (self._sums["groups/images"].sum() - self._sums["count"])
        chance = chance if measure == "knn" else 0.0
        value = tf.constant((hsic.cka(xy, xx, yy) - chance) / (1 - chance), tf.float32)
        if not errors:
            return value
        mean = tuple(total / self._sums["count"] for total in (xy, xx, yy))
        of_groups = [self._sums[f"groups/{measure}/{key}"] for key in ("xy", "xx", own)]
        changes = shares.changes(mean, of_groups, self._sums["groups/images"]) / (1 - chance)
        if measure == "cka":
            images, count = int(self._sums["groups/images"].sum()), float(self._sums["count"])
            moments = [self._sums[f"pairs/{key}"] / count for key in ("xy", "xx", own)]
            # every example is another one
            changes = pair_noise.counted_once(changes, mean, moments, pair_noise.Drawn(count, 1, images, images))
        return value, tf.constant(standard_error(changes), tf.float32)

    def reset_state(self) -> None:
        """Forgets all minibatches."""
        self._sums, self._scales = None, []

    def _called(self) -> str:
        return "CKA" if self.measures == ("cka",) else ", ".join(self.measures)

    def _group(self, n: int) -> np.ndarray:
        seen = 0 if self._sums is None else int(self._sums["groups/images"].sum())
        return (seen + np.arange(n)) % GROUPS

    def _groups(self, n: int) -> dict[str, Any]:
        return {"groups/images": np.bincount(self._group(n), minlength=GROUPS).astype(float), "count": 1}

    def _added(self, measure: str, x: folded.Stack, y: folded.Stack, n: int) -> dict[str, Any]:
        """What one minibatch adds to a measure's sums, and to those of its groups."""
        scale = hsic.normaliser(n)
        sums = {f"{measure}/{key}": value.numpy().astype(np.float64) / scale for key, value in _products(x, y).items()}
        of_groups = _shares(x, y, n, self._group(n), measure == "knn")
        found = {f"groups/{measure}/{key}": value for key, value in of_groups.items()}
        if measure == "cka":
            found |= {f"pairs/{key}": value for key, value in _moments(x, y, n).items()}
        return sums | {key: value.numpy().astype(np.float64) for key, value in found.items()}

    def _grams(self, layers: Sequence[Any]) -> tuple[Any, ...]:
        """The Grams [r, n, n] of the layers' centred features, and the squared norms of their means [r]."""
        here = [_on_cpu(x) for x in layers]  # where they are, whatever else the machine has
        faster = self.precision == "bfloat16" and any(here) and cores.bfloat16_units()
        if all(here) and not faster:
            arrays = ([np.asarray(memoryview(x))] for x in layers)  # without a copy
            with cores.at_work() as pool:
                found = list(host_gram.grams(arrays, pool, cores.count()))
            return tuple(np.stack(each) for each in zip(*found, strict=True))
        with in_precision():
            found = [self._gram(x, cpu, faster) for x, cpu in zip(layers, here, strict=True)]
        return tuple(tf.stack(each) for each in zip(*found, strict=True))

    def _gram(self, x: Any, cpu: bool, faster: bool) -> tuple[Any, Any]:
        with tf.device(x.device):
            return _gram(x, self.precision, cores.bfloat16_product("CPU" if cpu else "GPU", faster))


def _on_cpu(x: Any) -> bool:
    return tf.DeviceSpec.from_string(x.device).device_type == "CPU"


def _rows(layer: Any) -> Any:
    layer = tf.cast(tf.convert_to_tensor(layer), tf.float32)
    return tf.reshape(layer, [layer.shape[0], -1])


def _gram(x: Any, precision: str, product: hsic.Product) -> tuple[Any, Any]:
    """One layer's Gram [n, n] of centred features, and their mean's squared norm."""
    blocks, offset = _centred(x, precision)
    # XLA emulates bfloat16 on CPUs, whatever units they have; TensorFlow's own product does not
    return (_narrow if product == "narrow" else _compiled)(blocks, product), offset


@tf.function(jit_compile=True)
def _centred(x: Any, precision: str) -> tuple[list[Any], Any]:
    mean = tf.reduce_mean(x, axis=0)
    centred = tf.cast(x - mean, precision)[None]
    return [centred[:, i : i + hsic.BLOCK] for i in range(0, x.shape[0], hsic.BLOCK)], tf.reduce_sum(tf.square(mean))


@tf.function
def _narrow(blocks: Sequence[Any], product: hsic.Product) -> Any:
    return hsic.gram(blocks, product)[0]


_compiled = tf.function(_narrow.python_function, jit_compile=True)


@tf.function
def _folded(grams: Any, scales: Any, offsets: Any, forms: tuple[str, ...]) -> tuple[dict[str, Any], Any]:
    return folded.vectors(grams, scales, offsets, forms)


_products = tf.function(folded.products)
_moments = tf.function(pair_noise.moments)


@tf.function
def _shares(x: folded.Stack, y: folded.Stack, n: int, group: Any, flat: bool) -> dict[str, Any]:
    return shares.shares(x, y, n, tf.cast(group, tf.int32), flat=flat)
