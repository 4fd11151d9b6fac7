"""What happens to training images at random: they are shifted, mirrored and, by choice, mixed in pairs.

The random numbers come in as arguments, drawn by `order` from seed, epoch and image, so the result does not depend
on how images are batched, read or resumed.

b batch, h w image, c class
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def shifted(images: Any, draws: Any, shift: float, flip: bool) -> Any:
    """Images [b, h, w, 3] moved by up to `shift` of their side, the rim mirrored, and half of them flipped.

    `draws` [b, 3] is uniform in [0, 1): down, right, flip. Crop and flip are one gather for rows and one for
    columns: no padded copy, and bytes stay bytes.
    """
    _, h, w, _ = images.shape
    rows = _places(h, draws[:, 0], shift)
    columns = _places(w, draws[:, 1], shift)
    if flip:
        columns = tf.where(draws[:, 2:] < 0.5, columns, columns[:, ::-1])
    if shift:
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    if shift or flip:
        images = tf.gather(images, columns, axis=2, batch_dims=1)
    return images


def _places(side: int, draws: Any, shift: float) -> Any:
    """Which source row (or column) each of `side` rows shows [b, side]; outside the image it is mirrored."""
    most = round(shift * side)
    offset = tf.cast(tf.floor(draws * (2 * most + 1)), tf.int32) - most
    place = tf.range(side) + offset[:, None]
    # mirrored without repeating the rim: -1 -> 1, side -> side - 2
    place = tf.abs(place)
    return tf.minimum(place, 2 * (side - 1) - place) if side > 1 else tf.zeros_like(place)


def mixed(images: Any, targets: Any, weight: Any) -> tuple[Any, Any]:
    """Mixup: each image and target with the next one of its batch, in shares `weight` and 1 - `weight`."""
    weight = tf.cast(weight, images.dtype)
    images = weight * images + (1.0 - weight) * tf.roll(images, 1, axis=0)
    targets = weight * targets + (1.0 - weight) * tf.roll(targets, 1, axis=0)
    return images, targets
