"""Effective receptive fields: which pixels move one position of a layer, after Luo et al. 2016 (the paper's [23]).

For channel c of a tap at one position, g_c = |d tap[position, c] / d image|; the map is the mean of g_c over the
image's colours and over channels. Absolute values are taken per channel, so channels cannot be summed before the
gradient: each needs its own backward pass.

All channels of a chunk ride as rows of one batch, tiled from one image. The forward pass of those rows is shared by
all taps, whose backward passes start where each tap is: for L taps at equal spacing that is nearly half of the cost
of a forward and a backward pass per tap. (`tape.jacobian` vectorises further but overflowed the stack on deep nets.)
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Place(NamedTuple):
    """One position of a tap [b, positions..., channels...], and the channels whose gradients are wanted."""

    position: int  # in row-major order of the tap's positions
    positions: int  # how many there are
    channels: np.ndarray  # indices, each of the tap's trailing axes flattened


class Chunks(NamedTuple):
    """Channels of several taps cut into equal chunks; padding has weight zero."""

    channels: np.ndarray  # [chunks, taps, rows] int32
    weight: np.ndarray  # [chunks, rows] float32


def in_chunks(places: Mapping[str, Place], rows: int, exactly: bool = False) -> Chunks:
    """Chunks of at most `rows` channels, as even as they can be; every tap must have equally many channels.

    `exactly`: chunks of just so many, for a model that takes no other number.
    """
    channels = np.stack([place.channels for place in places.values()]).astype(np.int32)  # [taps, channels]
    count = channels.shape[1]
    chunks = -(-count // rows)
    rows = rows if exactly else -(-count // chunks)
    padding = chunks * rows - count
    channels = np.pad(channels, ((0, 0), (0, padding))).reshape(len(places), chunks, rows)
    weight = np.pad(np.ones(count, np.float32), (0, padding)).reshape(chunks, rows)
    return Chunks(channels.transpose(1, 0, 2), weight)


def gradient_maps(
    model: Callable[[Any], Mapping[str, Any]], image: Any, places: Mapping[str, Place], chunks: Chunks
) -> Any:
    """Mean absolute gradients of the image's pixels, one map per tap: [taps, h, w]. Traceable, static shapes."""
    import tensorflow as tf

    rows = chunks.weight.shape[1]
    height, width, colours = image.shape
    tiled = tf.tile(image[tf.newaxis], [rows, 1, 1, 1])
    channels, weight = tf.constant(chunks.channels), tf.constant(chunks.weight)

    def add_chunk(chunk: Any, total: Any) -> tuple[Any, Any]:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(tiled)
            taps = model(tiled)
            picked = [
                tf.reduce_sum(weight[chunk] * _pick(taps[name], place, channels[chunk, tap]))
                for tap, (name, place) in enumerate(places.items())
            ]
        maps: list[Any] = []
        for value in picked:
            # one backward pass after the other: side by side they would hold their activations together
            with tf.control_dependencies(maps[-1:]):
                seed = tf.ones_like(value)
            gradient = tape.gradient(value, tiled, seed, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            maps.append(tf.reduce_sum(tf.abs(tf.cast(gradient, tf.float32)), axis=[0, 3]))
        return chunk + 1, total + tf.stack(maps)

    start = (tf.constant(0), tf.zeros([len(places), height, width]))
    # a loop for one chunk too: with a chunk that is known TensorFlow would compute the first step of every backward
    # pass, which the image has no part in, beforehand, and keep tensors of the taps' sizes in the graph
    _, total = tf.while_loop(lambda chunk, _: chunk < len(chunks.weight), add_chunk, start, parallel_iterations=1)
    return total / float(chunks.weight.sum() * colours)


def _pick(tap: Any, place: Place, channels: Any) -> Any:
    """Row r's value at the position and its channel: [rows, ...] -> [rows]."""
    import tensorflow as tf

    flat = tf.reshape(tap, [tap.shape[0], place.positions, -1])[:, place.position]  # [rows, channels]
    return tf.gather(flat, channels, axis=1, batch_dims=1)


def in_cells(maps: Any, cell: int) -> Any:
    """Sums over square cells of pixels, [..., h, w] -> [..., h / cell, w / cell]."""
    import tensorflow as tf

    *lead, height, width = maps.shape
    maps = tf.reshape(maps, [*lead, height // cell, cell, width // cell, cell])
    return tf.reduce_sum(maps, axis=[-3, -1])
