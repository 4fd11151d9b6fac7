"""Data that a caller holds: NumPy arrays, or a tf.data.Dataset of known size, batched or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data.arrays import MAX_CLASSES, Arrays
from tf_vitcnn.data.base import Source, digest
from tf_vitcnn.errors import BadInput

EXPECTED = "a spec, uint8 images [n, h, w, 3] or [n, h, w], (images, labels), or a tf.data.Dataset of those"


def source_of(data: Any) -> Source:
    """The source of what a caller gave; one line for what does not fit."""
    if isinstance(data, tf.data.Dataset):
        images, labels = _collected(data)
        return _arrays("a tf.data.Dataset", images, labels)
    if isinstance(data, tuple | list) and len(data) == 2 and not np.isscalar(data[0]):
        return _arrays("arrays", np.asarray(data[0]), np.asarray(data[1]))
    if hasattr(data, "__array__"):
        return _arrays("arrays", np.asarray(data), None)
    raise BadInput(f"data of type {type(data).__name__}: expected {EXPECTED}")


def _arrays(spec: str, images: np.ndarray, labels: np.ndarray | None) -> Arrays:
    shape = list(images.shape)
    if images.dtype != np.uint8:
        raise BadInput(f"{spec}: images of type {images.dtype}; expected uint8 in 0..255, before any preprocessing")
    if not (images.ndim == 3 or (images.ndim == 4 and shape[3] == 3)) or 0 in shape:
        raise BadInput(f"{spec}: images of shape {shape}; expected [n, h, w, 3] or [n, h, w], not empty")
    names: tuple[str, ...] = ()
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            kind = f"type {labels.dtype} and shape {list(labels.shape)}"
            raise BadInput(f"{spec}: labels of {kind}; expected one integer for each of {len(images)} images")
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise BadInput(f"{spec}: labels from {labels.min()} to {labels.max()}; expected 0 to {MAX_CLASSES - 1}")
        labels = labels.astype(np.int32)
        names = tuple(map(str, range(int(labels.max()) + 1)))
    parts = [images.shape, np.ascontiguousarray(images).tobytes(), b"" if labels is None else labels.tobytes()]
    return Arrays(spec, images, labels, names, digest(parts))


def _collected(data: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """All images of a dataset, and all labels, in memory."""
    image, label = _elements(data.element_spec)
    count = int(data.cardinality())
    if count < 0:
        what = "has no end: take(n) of it" if count == tf.data.INFINITE_CARDINALITY else "does not say its size"
        raise BadInput(f"a tf.data.Dataset {what}; expected one of known size (assert_cardinality)")
    batched = image.shape.rank == 4 or (image.shape.rank == 3 and image.shape[-1] not in (1, 3))
    parts = [element if label is not None else (element, None) for element in data.as_numpy_iterator()]
    if not parts:
        raise BadInput("a tf.data.Dataset without images; expected at least one")
    pictures = [np.asarray(part[0]) for part in parts]
    if len({picture.shape[-3:] if not batched else picture.shape[1:] for picture in pictures}) > 1:
        raise BadInput("a tf.data.Dataset with images of different sizes: resize them to one, or use folder:DIR")
    join = np.concatenate if batched else np.stack
    images = join(pictures)
    images = images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
    if label is None:
        return images, None
    return images, join([np.asarray(part[1]) for part in parts])


def _elements(spec: Any) -> tuple[Any, Any]:
    """What an element's images and labels are."""
    parts = spec if isinstance(spec, tuple) else (spec, None)
    if len(parts) != 2 or not isinstance(parts[0], tf.TensorSpec) or not isinstance(parts[1], tf.TensorSpec | None):
        raise BadInput(f"a tf.data.Dataset of {spec}: expected images, or (images, labels)")
    if parts[0].shape.rank not in (2, 3, 4):
        raise BadInput(f"a tf.data.Dataset of images {parts[0].shape}: expected [h, w, 3] or [b, h, w, 3]")
    return parts
