"""Drawn images as micro-batches, one per replica and step: who computes what is decided by position alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_vitcnn.analyses.base import Batch, Picked
from tf_vitcnn.data import sources
from tf_vitcnn.data.base import Source
from tf_vitcnn.devices.replicas import Replicas


def micro_batches(images: int, micro: int, replicas: int) -> np.ndarray:
    """Positions [step, replica, b]: micro-batch j goes to replica j mod R; -1 pads the last ones."""
    steps = -(-images // (micro * replicas))
    positions = np.full(steps * replicas * micro, -1)
    positions[:images] = np.arange(images)
    return positions.reshape(steps, replicas, micro)


def minibatch_chunks(minibatches: int, size: int, micro: int, replicas: int) -> np.ndarray:
    """Positions [step, chunk, replica, b]: minibatch k, whole, goes to replica k mod R; -1 pads."""
    chunks = -(-size // micro)
    whole = np.full((minibatches, chunks * micro), -1)
    whole[:, :size] = np.arange(minibatches * size).reshape(minibatches, size)
    steps = -(-minibatches // replicas)
    positions = np.full((steps * replicas, chunks * micro), -1)
    positions[:minibatches] = whole
    return positions.reshape(steps, replicas, chunks, micro).swapaxes(1, 2)


class Fed(NamedTuple):
    """One micro-batch per local replica."""

    batch: Any  # Batch, on every replica; `images` is a tuple with one tensor per preprocessing
    positions: np.ndarray  # [R * b] of all replicas, -1 for padding


def feed(
    source: Source,
    picked: Picked,
    positions: np.ndarray,  # [..., R, b]
    preprocessings: Sequence[Any],
    replicas: Replicas,
) -> Iterator[Fed]:
    """The micro-batches of this process, in order, read ahead of the computation.

    Each is on its way to the devices before the one before it is computed on.
    """
    fed = _in_order(source, picked, positions, preprocessings, replicas)
    ahead = next(fed, None)
    while ahead is not None:
        now, ahead = ahead, next(fed, None)
        yield now


def _in_order(
    source: Source, picked: Picked, positions: np.ndarray, preprocessings: Sequence[Any], replicas: Replicas
) -> Iterator[Fed]:
    micro = positions.shape[-1]
    flat = positions.reshape(-1, replicas.count, micro)
    mine = flat[:, replicas.first : replicas.first + replicas.local]
    # padding reads the first image again, and weighs nothing
    indices = picked.indices[np.maximum(mine, 0).reshape(-1)]
    stream = iter(sources.batches(source, indices, tuple(preprocessings), micro))
    for step, local in enumerate(mine):
        batches = []
        for row in local:
            with sources.naming_corrupt(source, picked.indices[np.maximum(mine[step:].reshape(-1), 0)]):
                images, label = next(stream)
            at = np.maximum(row, 0)
            batches.append(
                Batch(
                    images=images,
                    label=tf.cast(label, tf.int32),
                    weight=tf.constant((row >= 0).astype(np.float32)),
                    position=tf.constant(at.astype(np.int32)),
                    role=tf.constant(picked.roles[at].astype(np.int32)),
                )
            )
        yield Fed(replicas.placed(batches), flat[step].reshape(-1))
