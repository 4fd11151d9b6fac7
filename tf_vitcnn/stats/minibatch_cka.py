"""CKA of activations that a caller has: a Keras metric over minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import cores, folded, host_gram, hsic


class MinibatchCKA(keras.metrics.Metric):
    """CKA between all layers' activations, accumulated over minibatches.

        metric = MinibatchCKA()
        metric.update_state([layer_1, layer_2, ...])     # each [n, ...], the same n >= 4 examples
        metric.result()                                  # [l, l], NaN where a layer is constant

    With `others`, rows are `activations` and columns are `others`.
    """

    def __init__(self, precision: str = "float32", name: str = "minibatch_cka") -> None:
        if precision not in ("float32", "bfloat16"):
            raise BadInput(f"unknown precision {precision!r}; available: float32, bfloat16")
        super().__init__(name=name)
        self.precision = precision
        self._sums: dict[str, np.ndarray] | None = None
        self._scales: list[Any] = []

    def update_state(self, activations: Sequence[Any], others: Sequence[Any] | None = None) -> None:
        """Adds one minibatch."""
        sides = [list(activations)] if others is None else [list(activations), list(others)]
        sizes = {int(layer.shape[0]) for side in sides for layer in side}
        if len(sizes) != 1 or min(sizes) < 4:
            raise BadInput(f"CKA needs the same n >= 4 examples in every layer, not {sorted(sizes)}")
        layers = [_rows(layer) for side in sides for layer in side]
        if self._scales and len(layers) != len(self._scales):
            raise BadInput(f"this minibatch has {len(layers)} layers, the first one had {len(self._scales)}")
        scales, folds = list(self._scales), list[tuple[Any, Any]]()
        for i, (gram, offset) in enumerate(self._grams(layers)):
            if not self._scales:
                scales.append(hsic.power_of_two(np.trace(gram) / len(gram)))
            folds.append(_folded(gram, offset, scales[i]))
        self._scales = scales
        vectors, norms = [vector for vector, _ in folds], [norm for _, norm in folds]
        split = len(sides[0])
        added = _products(*([tf.stack(part)] if part else [] for part in (vectors[:split], vectors[split:])))
        scale = hsic.normaliser(sizes.pop())
        sums = {key: value.numpy().astype(np.float64) / scale for key, value in added.items()}
        sums["norms"] = np.stack([n.numpy().astype(np.float64) for n in norms])
        self._sums = sums if self._sums is None else {k: self._sums[k] + v for k, v in sums.items()}

    def result(self) -> Any:
        """CKA [l, l'] of everything since the last reset."""
        if self._sums is None:
            raise BadInput("no minibatch yet: call update_state first")
        xy = self._sums["xy"]
        constant = self._sums["norms"][:, 0] <= hsic.CONSTANT**2 * self._sums["norms"][:, 1]
        xx = np.where(constant[: len(xy)], np.nan, self._sums["xx"])
        yy = np.where(constant[len(xy) :], np.nan, self._sums["yy"]) if "yy" in self._sums else xx
        return tf.constant(hsic.cka(xy, xx, yy), tf.float32)

    def reset_state(self) -> None:
        """Forgets all minibatches."""
        self._sums, self._scales = None, []

    def _grams(self, layers: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """The Gram [n, n] of each layer's centred features, and the squared norm of their mean."""
        if self.precision != "float32" or tf.config.list_physical_devices("GPU"):
            yield from (_gram(x, self.precision) for x in layers)
            return
        with cores.at_work() as pool:
            for x in layers:
                yield host_gram.gram([np.asarray(memoryview(x))], pool)  # without a copy


def _rows(layer: Any) -> Any:
    layer = tf.cast(tf.convert_to_tensor(layer), tf.float32)
    return tf.reshape(layer, [layer.shape[0], -1])


@tf.function(jit_compile=True)
def _gram(x: Any, precision: str) -> tuple[Any, Any]:
    mean = tf.reduce_mean(x, axis=0)
    centred = tf.cast(x - mean, precision)[None]
    blocks = [centred[:, i : i + hsic.BLOCK] for i in range(0, x.shape[0], hsic.BLOCK)]
    return hsic.gram(blocks)[0], tf.reduce_sum(tf.square(mean))


@tf.function
def _folded(gram: Any, offset: Any, scale: Any) -> tuple[Any, Any]:
    vectors, norm = folded.vectors(gram[None] * scale**2, offset[None] * scale**2, ["u"])
    return vectors["u"][0], norm[:, 0]


_products = tf.function(folded.products, reduce_retracing=True)
