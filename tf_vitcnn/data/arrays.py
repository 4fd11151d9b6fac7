"""Sources that need no image files: arrays in an npz, scikit-learn's digits, seeded noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data.base import Source, digest
from tf_vitcnn.data.npz import NpzFile
from tf_vitcnn.errors import BadInput

MAX_CLASSES = 1_000_000  # a label beyond that is a mistake, and would size a one-hot matrix
NOISE_IMAGES = 1_000_000


class Arrays(Source):
    """Images in one array [n, h, w, 3] or [n, h, w] (gray), in memory or mapped from a file."""

    def __init__(
        self, spec: str, images: np.ndarray, labels: np.ndarray | None, class_names: tuple[str, ...], fingerprint: str
    ) -> None:
        self.spec, self.size, self.class_names, self.fingerprint = spec, len(images), class_names, fingerprint
        self._images = images
        self._labels = labels
        with tf.device("CPU"):
            self._label = tf.constant(np.full(self.size, -1, np.int32) if labels is None else labels)

    def load(self, index: Any) -> tuple[Any, Any]:
        """The image copied from the array, gray repeated three times."""
        image = tf.numpy_function(lambda i: np.array(self._images[i]), [index], tf.uint8, stateful=False)
        image.set_shape(self._images.shape[1:])
        if self._images.ndim == 3:
            image = tf.repeat(image[..., None], 3, axis=-1)
        return image, tf.gather(self._label, index)

    def labels(self) -> np.ndarray | None:
        """The labels of the file, or none."""
        return self._labels


def open_npz(spec: str, path: str) -> Arrays:
    """The source of `npz:FILE`: `images`, and `labels` if they are there. Uncompressed files are mapped, not read."""
    with NpzFile(path) as file:
        images = file.array("images")
        shape = images.shape
        if images.dtype != np.uint8:
            raise BadInput(f"{path}: images of type {images.dtype}; expected uint8 in 0..255")
        if not (images.ndim == 3 or (images.ndim == 4 and shape[3] == 3)) or 0 in shape[1:]:
            raise BadInput(f"{path}: images of shape {list(shape)}; expected [n, h, w, 3] or [n, h, w]")
        if not shape[0]:
            raise BadInput(f"{path}: no images; expected at least one")
        labels = _npz_labels(path, file, shape[0])
        fingerprint = digest(file.checksum(name) for name in ("images", "labels") if name in file)
    names = () if labels is None else tuple(map(str, range(int(labels.max()) + 1)))
    return Arrays(spec, images, labels, names, fingerprint)


def _npz_labels(path: str, file: NpzFile, count: int) -> np.ndarray | None:
    if "labels" not in file:
        return None
    labels = file.array("labels")
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise BadInput(
            f"{path}: labels of type {labels.dtype} and shape {list(labels.shape)}; expected integers [{count}]"
        )
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise BadInput(f"{path}: labels from {labels.min()} to {labels.max()}; expected 0 to {MAX_CLASSES - 1}")
    return np.array(labels, np.int32)


def open_digits(spec: str, split: str) -> Arrays:
    """Handwritten digits of scikit-learn, 8 x 8, gray; four fifths of each class are the training split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = _stratified(digits.target, share=0.8)
    chosen = chosen if split == "train" else np.setdiff1d(np.arange(len(digits.target)), chosen)
    images = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)  # grades 0..16
    labels = digits.target[chosen].astype(np.int32)
    return Arrays(spec, images, labels, tuple("0123456789"), digest([images.tobytes(), labels.tobytes()]))


def _stratified(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Sorted indices of that share of each class, drawn by seed."""
    rng = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        parts.append(of_class[: round(share * len(of_class))])
    return np.sort(np.concatenate(parts))


class Noise(Source):
    """Uniform noise, each image a function of its number: nothing to store, the same everywhere."""

    def __init__(self, spec: str, side: int) -> None:
        self.spec, self.size, self.side = spec, NOISE_IMAGES, side
        self.fingerprint = f"noise-{side}"

    def load(self, index: Any) -> tuple[Any, Any]:
        """Noise seeded by the index."""
        words = -(-self.side * self.side * 3 // 4)
        seed = tf.stack([tf.cast(index, tf.int64), tf.constant(0, tf.int64)])
        # philox by name: the algorithm chosen by default differs between devices
        bits = tf.random.stateless_uniform([words], seed, None, None, tf.uint32, alg="philox")
        pixels = tf.reshape(tf.bitcast(bits, tf.uint8), [-1])[: self.side * self.side * 3]
        return tf.reshape(pixels, [self.side, self.side, 3]), tf.constant(-1)


def open_noise(spec: str, side: str) -> Noise:
    """`noise`, or `noise:SIDE` for other images than 224 x 224."""
    if not side:
        return Noise(spec, 224)
    if not side.isdecimal() or not 1 <= int(side) <= 4096:
        raise BadInput(f"{spec!r}: expected noise or noise:SIDE with a side of 1 to 4096 pixels")
    return Noise(spec, int(side))
