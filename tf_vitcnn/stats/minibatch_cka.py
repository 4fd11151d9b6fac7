"""CKA of activations that a caller has: a Keras metric over minibatches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import folded, hsic

SCALED_BY = 16  # examples of the first minibatch that a layer's scale is taken from


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
        self._buffer = np.empty(0, np.float32)

    def update_state(self, activations: Sequence[Any], others: Sequence[Any] | None = None) -> None:
        """Adds one minibatch."""
        sides = [list(activations)] if others is None else [list(activations), list(others)]
        sizes = {int(layer.shape[0]) for side in sides for layer in side}
        if len(sizes) != 1 or min(sizes) < 4:
            raise BadInput(f"CKA needs the same n >= 4 examples in every layer, not {sorted(sizes)}")
        layers = [_rows(layer) for side in sides for layer in side]
        if not self._scales:
            self._scales = [_scale(layer[:SCALED_BY]) for layer in layers]
        if len(layers) != len(self._scales):
            raise BadInput(f"this minibatch has {len(layers)} layers, the first one had {len(self._scales)}")
        folds = [self._fold(layer, scale) for layer, scale in zip(layers, self._scales, strict=True)]
        vectors, norms = [vector for vector, _ in folds], [norm for _, norm in folds]
        split = len(sides[0])
        added = _inner(tf.stack(vectors[:split]), tf.stack(vectors[split:]) if others is not None else None)
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
        xx, yy = np.where(constant[: len(xy)], np.nan, self._sums["xx"]), self._sums["yy"]
        yy = np.where(constant if len(constant) == len(xy) else constant[len(xy) :], np.nan, yy)
        return tf.constant(hsic.cka(xy, xx, yy), tf.float32)

    def reset_state(self) -> None:
        """Forgets all minibatches."""
        self._sums, self._scales = None, []

    def _fold(self, x: Any, scale: Any) -> tuple[Any, Any]:
        """The folded, U-centred Gram [~n²/2] of one layer [n, p], and its squared norms, centred and not."""
        if self.precision != "float32" or tf.config.list_physical_devices("GPU"):
            return _folded(*_gram(x, self.precision), scale)
        # NumPy sees that both factors are one matrix and lets BLAS multiply one triangle only: TensorFlow has no such
        # kernel for CPUs. The centred features stay in one buffer: fresh pages cost as much as the subtraction.
        rows = np.asarray(memoryview(x))  # without a copy
        if self._buffer.size < rows.size:
            self._buffer = np.empty(rows.size, np.float32)
        mean = np.full(len(rows), 1 / len(rows), np.float32) @ rows  # on all cores, unlike rows.mean
        centred = np.subtract(rows, mean, out=self._buffer[: rows.size].reshape(rows.shape))
        return _folded(tf.constant((centred @ centred.T)[None]), tf.constant(mean @ mean), scale)


def _rows(layer: Any) -> Any:
    layer = tf.cast(tf.convert_to_tensor(layer), tf.float32)
    return tf.reshape(layer, [layer.shape[0], -1])


def _scale(x: Any) -> Any:
    return hsic.power_of_two(x - tf.reduce_mean(x, axis=0))


@tf.function(jit_compile=True)
def _gram(x: Any, precision: str) -> tuple[Any, Any]:
    """The Gram [1, n, n] of centred features, and their mean's squared norm."""
    mean = tf.reduce_mean(x, axis=0)
    centred = tf.cast(x - mean, precision)[None]
    blocks = [centred[:, i : i + hsic.BLOCK] for i in range(0, x.shape[0], hsic.BLOCK)]
    return hsic.gram(blocks), tf.reduce_sum(tf.square(mean))


@tf.function
def _folded(gram: Any, offset: Any, scale: Any) -> tuple[Any, Any]:
    vectors, norm = folded.vectors(gram * scale**2, offset[None] * scale**2, ["u"])
    return vectors["u"][0], norm[:, 0]


@tf.function(reduce_retracing=True)
def _inner(x: Any, y: Any | None) -> dict[str, Any]:
    """Inner products of folded Grams: rows against columns, and each with itself."""
    if y is None:
        xy = tf.linalg.matmul(x, x, transpose_b=True)
        return {"xy": xy, "xx": tf.linalg.diag_part(xy), "yy": tf.linalg.diag_part(xy)}
    own = [tf.reduce_sum(tf.square(side), axis=-1) for side in (x, y)]
    return {"xy": tf.linalg.matmul(x, y, transpose_b=True), "xx": own[0], "yy": own[1]}
