"""The training images: which ones, in which order, with which random numbers, as an endless-looking stream of steps.

Everything random is a function of seed, epoch and image, drawn on the host with NumPy, so a stream that starts at
step s is exactly the rest of one that starts at 0. Images that fit in memory are decoded once; larger sets are
read again in every epoch, and the steps are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.errors import BadInput
from tf_vitcnn.training import augment

if TYPE_CHECKING:
    from tf_vitcnn.data.sources import Source
    from tf_vitcnn.training.recipe import Recipe

READ = 256  # images decoded at a time


def labels_of(source: Source, flag: str) -> np.ndarray:
    """The labels of a source that must have them."""
    labels = source.labels()
    if labels is None or (labels < 0).any():
        raise BadInput(f"{flag} {source.spec}: no labels; training needs one for each image")
    return labels


def subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Indices of a share of the images, the same of each class (at least one); smaller shares lie in larger ones."""
    order = np.random.default_rng([seed, 0x5B5E7]).permutation(len(labels))
    chosen = []
    for label in np.unique(labels):
        own = order[labels[order] == label]
        chosen.append(own[: max(1, math.ceil(fraction * len(own) - 1e-9))])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class Order:
    """Which images each step sees: `images` of them in shuffled epochs, the last incomplete batch of each dropped."""

    images: int
    batch: int
    epochs: int
    seed: int
    mixup: float = 0.0

    @property
    def epoch_steps(self) -> int:
        """Steps in one pass."""
        return self.images // self.batch

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.epoch_steps

    def from_step(self, first: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.float32]]:
        """For each step: places of its images [b], their uniform draws [b, 3], and the weight of mixup."""
        for epoch in range(first // self.epoch_steps, self.epochs):
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(self.images)
            draws = random.random((self.images, 3), dtype=np.float32)  # by image, not by place in the order
            weights = random.beta(self.mixup or 1.0, self.mixup or 1.0, self.epoch_steps).astype(np.float32)
            for k in range(max(0, first - epoch * self.epoch_steps), self.epoch_steps):
                places = order[k * self.batch : (k + 1) * self.batch]
                yield places, draws[places], weights[k]


class Examples:
    """Some of a source's images at the network's size: kept as bytes in memory, or read again each time.

    Images that must be resized are rounded to bytes once (half a grey level at most).
    """

    def __init__(
        self, source: Source, indices: np.ndarray, labels: np.ndarray, to_input: Preprocessing, memory: float
    ) -> None:
        self.source, self.indices, self.labels, self.to_input = source, indices, labels[indices], to_input
        self.size = to_input.size
        self._resize = Preprocessing(
            self.size, resize=to_input.resize, antialias=to_input.antialias, crop=to_input.crop, values="0..255"
        )
        # cropping is done with resizing: what is kept is the network's field of view
        self._values = Preprocessing(self.size, values=to_input.values)
        self.held = len(indices) * self.size[0] * self.size[1] * 3 <= memory
        with tf.device("/cpu:0"):  # where tf.data runs
            self._images: Any = tf.constant(self._read_all()) if self.held else None

    def __len__(self) -> int:
        """How many images."""
        return len(self.indices)

    def image(self, index: Any) -> Any:
        """One image of the source as bytes [h, w, 3] at the network's size."""
        image, _ = self.source.load(index)
        if image.shape[:2] == self.size and self._resize.crop is None:
            return tf.ensure_shape(image, (*self.size, 3))
        pixels = tf.reshape(self._resize(image), (*self.size, 3))
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0.0, 255.0), tf.uint8)

    def _read_all(self) -> np.ndarray:
        images = np.empty((len(self), *self.size, 3), np.uint8)
        read = tf.data.Dataset.from_tensor_slices(self.indices.astype(np.int64))
        read = read.map(self.image, tf.data.AUTOTUNE).batch(READ).prefetch(2)
        done = 0
        for chunk in read:
            images[done : done + len(chunk)] = chunk.numpy()
            done += len(chunk)
        return images

    def steps(self, order: Order, recipe: Recipe, classes: int, first: int) -> tf.data.Dataset:
        """Augmented (input [b, h, w, 3], target [b, c]) of every step from `first` on."""
        b = order.batch
        signature = (
            tf.TensorSpec([b], tf.int64),
            tf.TensorSpec([b, 3], tf.float32),
            tf.TensorSpec([], tf.float32),
        )
        stream = tf.data.Dataset.from_generator(lambda: order.from_step(first), output_signature=signature)
        labels = tf.constant(self.labels, tf.int32)
        flip, shift = bool(recipe.flip), recipe.shift or 0.0

        def example(images: Any, places: Any, draws: Any, weight: Any) -> tuple[Any, Any]:
            images = self._values(augment.shifted(images, draws, shift, flip))
            images = tf.ensure_shape(images, (b, *self.size, 3))
            targets = tf.one_hot(tf.gather(labels, places), classes)
            return augment.mixed(images, targets, weight) if recipe.mixup else (images, targets)

        if self.held:
            stream = stream.map(
                lambda places, *rest: example(tf.gather(self._images, places), places, *rest), tf.data.AUTOTUNE
            )
        else:
            stream = self._reading(stream, b).map(example, tf.data.AUTOTUNE)
        return stream.prefetch(tf.data.AUTOTUNE)

    def _reading(self, stream: tf.data.Dataset, b: int) -> tf.data.Dataset:
        """Each step's images read from the source, in parallel and in order."""
        indices = tf.constant(self.indices, tf.int64)
        places = stream.map(lambda places, draws, weight: places).unbatch()
        images = places.map(lambda place: self.image(indices[place]), tf.data.AUTOTUNE).batch(b, drop_remainder=True)
        return tf.data.Dataset.zip((images, stream)).map(lambda images, rest: (images, *rest))

    def in_order(self, batch: int) -> tf.data.Dataset:
        """Network inputs [b, h, w, 3] one after the other; the last batch is filled up by repeating the last image."""
        fill = -len(self) % batch
        places = np.append(np.arange(len(self)), [len(self) - 1] * fill).astype(np.int64)
        stream = tf.data.Dataset.from_tensor_slices(places.reshape(-1, batch))
        if self.held:
            stream = stream.map(lambda places: tf.gather(self._images, places), tf.data.AUTOTUNE)
        else:
            indices = tf.constant(self.indices, tf.int64)
            stream = stream.unbatch().map(lambda place: self.image(indices[place]), tf.data.AUTOTUNE)
            stream = stream.batch(batch, drop_remainder=True)
        return stream.map(self._values, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
