"""Receptive fields of all post-residual taps of vit_b32@random against one forward and backward pass per channel.

python benchmarks/receptive_field.py [rounds] [images]: seconds per image for 24 taps and 64 channels, over the time of
as many forward and backward passes through the part of the graph that each tap needs, at the best batch size. The
project asks for at most 1.1, and for a peak below 10 GB. The floor is measured at four depths and interpolated (it is
linear in depth). Takes turns, the best of each counts: other work on the machine disturbs both alike.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_vitcnn import load
from tf_vitcnn.analyses.base import Batch, Run
from tf_vitcnn.analyses.receptive_field.analysis import ReceptiveField
from tf_vitcnn.devices.memory import peak
from tf_vitcnn.subject import Subject

CHANNELS, BATCHES, DEPTHS = 64, (16, 32, 64), 4


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def pass_through(subject: Subject, tap: str, batch: int) -> Callable[[], object]:
    """A forward and a backward pass of so many rows, from the images to the tap and back."""
    model = subject.expose([tap])
    images = tf.random.normal([batch, 224, 224, 3], seed=0)

    @tf.function
    def both(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = tf.reduce_sum(model(x, training=False)[tap][:, 25])
        return tf.reduce_sum(tf.abs(tape.gradient(value, x)))

    return lambda: both(images).numpy()


def main() -> None:
    """Prints the ratio and the peak."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    subject = load("vit_b32@random")
    analysis = ReceptiveField(channels=CHANNELS)
    run = Run((subject,), (tuple(analysis.default_taps(subject)),))
    taps = run.taps[0]
    bound = tf.function(analysis.bind(analysis.stages(run)[0], run))
    zeros = tf.zeros([count], tf.int32)
    batch = Batch(tf.random.normal([count, 224, 224, 3], seed=0), zeros, tf.ones([count]), tf.range(count), zeros)

    def ours() -> object:
        return bound(batch, {})["gradient"].numpy()

    first = timed(ours)
    highest = peak()
    places = np.unique(np.linspace(0, len(taps) - 1, DEPTHS).round().astype(int))
    floors = {size: [pass_through(subject, taps[i], size) for i in places] for size in BATCHES}
    for works in floors.values():
        for work in works:
            work()
    times = [
        (timed(ours) / count, {s: [timed(w) / s for w in works] for s, works in floors.items()}) for _ in range(rounds)
    ]
    mine = min(t for t, _ in times)
    floor = {
        size: CHANNELS * np.interp(range(len(taps)), places, np.min([f[size] for _, f in times], axis=0)).sum()
        for size in BATCHES
    }
    size = min(floor, key=lambda s: floor[s])
    print(f"{len(taps)} taps, {CHANNELS} channels: {mine:.1f} s per image (first call, compiling: {first:.1f} s)")
    print(f"as many forward and backward passes: {floor[size]:.1f} s per image, batches of {size}; {floor}")
    print(f"ratio: {mine / floor[size]:.2f} (asked: at most 1.1); highest {highest / 1e9:.1f} GB (asked: below 10)")


if __name__ == "__main__":
    main()
