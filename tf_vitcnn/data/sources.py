"""Images by spec string, drawn by seed, decoded and resized in parallel.

`NAME:SPLIT` (tensorflow_datasets) · `folder:DIR` · `npz:FILE` · `digits:train|test` · `noise[:SIDE]`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data.base import Source
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.data.spec import refuse_misspelt
from tf_vitcnn.errors import BadInput

__all__ = ["Sound", "Source", "batches", "check", "draw", "name_corrupt", "naming_corrupt", "open_source"]

# what reading and decoding raise for a file that is not what it should be
CORRUPT = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
)


def open_source(spec: str, data_dir: str | None = None) -> Source:
    """The source that a spec names; `data_dir` is where tensorflow_datasets keeps its prepared sets."""
    refuse_misspelt(spec, data_dir)
    kind, _, rest = spec.partition(":")
    if kind == "noise":
        from tf_vitcnn.data.arrays import open_noise

        return open_noise(spec, rest)
    if kind == "folder":
        from tf_vitcnn.data.folder import Folder

        return Folder(spec, rest)
    if kind == "npz":
        from tf_vitcnn.data.arrays import open_npz

        return open_npz(spec, rest)
    if kind == "digits":
        from tf_vitcnn.data.arrays import open_digits

        return open_digits(spec, rest)
    from tf_vitcnn.data.prepared import Prepared

    return Prepared(spec, data_dir)


def draw(source: Source, images: int | None, seed: int, repeat: int = 0) -> np.ndarray:
    """Indices of `images` images without replacement (None: all), in an order fixed by seed and repeat, int64.

    A smaller draw is the beginning of a larger one. Sorted sources are shuffled thereby. Draws of other seeds or
    repeats are independent.
    """
    if images is not None and not 0 < images <= source.size:
        raise BadInput(f"{source.spec}: {images} images wanted; it has {source.size}")
    # a child of the seed, not the next seed: that one's draws are others
    words = np.random.SeedSequence(seed, spawn_key=(repeat,) if repeat else ())
    return np.random.default_rng(words).permutation(source.size)[:images]


def batches(
    source: Source, indices: np.ndarray, preprocessings: Sequence[Preprocessing], batch: int
) -> tf.data.Dataset:
    """Batches (images, label) of those images in that order: one float32 [b, h, w, 3] per preprocessing, int32 [b].

    The last batch is short where `batch` does not divide the number of images.
    """
    different = list(dict.fromkeys(preprocessings))

    def prepared(index: Any) -> tuple[Any, Any]:
        image, label = source.load(index)
        done = {p: p(image) for p in different}  # equal ones are computed once
        return tuple(done[p] for p in preprocessings), label

    data = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    data = data.map(prepared, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.batch(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def check(source: Source, indices: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Those of the indices whose images can be decoded, in order, and the descriptions of the others."""
    indices = np.asarray(indices, np.int64)

    def decoded(index: Any) -> Any:
        image, _ = source.load(index)
        return index, tf.shape(image)

    data = tf.data.Dataset.from_tensor_slices(indices)
    data = data.map(decoded, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors().prefetch(tf.data.AUTOTUNE)
    good = np.array([int(index) for index, _ in data], np.int64)
    bad = indices[~np.isin(indices, good)]
    return good, [source.describe(int(i)) for i in bad]


class Sound:
    """Draws without corrupt images, in whose places the next ones of the permutation move up.

    Each image is decoded at most once, however many draws it is in.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.skipped = source, list[str]()  # what was left out, as a user may call it
        self._looked, self._good = (np.zeros(source.size, bool) for _ in range(2))

    def draw(self, images: int | None, seed: int, repeat: int = 0) -> np.ndarray:
        """As `draw`, of those that can be decoded; fewer where the source has no more of them."""
        order = draw(self.source, None, seed, repeat)
        wanted = taken = len(draw(self.source, images, seed))
        self._look(order[:taken])
        while (lacking := wanted - int(self._good[order[:taken]].sum())) and taken < len(order):
            self._look(order[taken : taken + max(16, lacking)])
            taken += max(16, lacking)
        return order[:taken][self._good[order[:taken]]][:wanted]

    def _look(self, indices: np.ndarray) -> None:
        new = indices[~self._looked[indices]]
        if not len(new):
            return
        good, bad = check(self.source, new)
        self._looked[new], self._good[good] = True, True
        self.skipped = sorted([*self.skipped, *bad])


def name_corrupt(source: Source, indices: np.ndarray) -> str | None:
    """The first of those images that cannot be decoded, with the reason; None if all can."""
    for part in np.array_split(np.asarray(indices, np.int64), max(1, len(indices) // 256)):
        good, _ = check(source, part)
        for index in part[~np.isin(part, good)]:
            try:
                source.load(tf.constant(index))
            except CORRUPT as error:
                return f"{source.describe(int(index))}: {_reason(error)}"
            return f"{source.describe(int(index))}: cannot be decoded"
    return None


@contextmanager
def naming_corrupt(source: Source, indices: np.ndarray) -> Iterator[None]:
    """Turns the error of a corrupt image, which tf.data raises without a name, into one line that names it."""
    try:
        yield
    except CORRUPT as error:
        name = name_corrupt(source, indices)
        if name is None:
            raise
        raise BadInput(f"{name}; repair or remove it, or go on without it (--skip-bad)") from error


def _reason(error: tf.errors.OpError) -> str:
    message = error.message.lower()
    if "more pixels" in message:
        return "its header declares more pixels than the file can hold, or than are accepted"
    if "neither jpeg" in message:
        return "neither JPEG nor PNG"
    if isinstance(error, tf.errors.NotFoundError):
        return "no such file"
    return "corrupt or truncated image"
