"""Attention distances against a bare forward pass, and against NumPy on the same attention.

python benchmarks/attention.py [rounds]: (1) every head of vit_b16@random, sums included, over a forward pass that ends
at the last attention: the project asks for at most 1.15. (2) attention [16, 12, 197, 197] to distances: NumPy that
builds the distance matrix in a loop and weighs vectorised takes at least 3 times as long, a plain double loop at least
100 times. Takes turns, the best of each counts: other work on the machine disturbs both alike.
"""

import math
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_vitcnn import load
from tf_vitcnn.analyses.attention_distance.analysis import AttentionDistance
from tf_vitcnn.analyses.base import Batch, PerImage, Run
from tf_vitcnn.stats.attention import attention_sums, grid_distances

BATCH, SIDE, PATCH = 16, 14, 16


def best(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Seconds of each, taken in turns after one warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for i in range(rounds + 1):
        for work, seconds in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if i > 0:
                seconds.append(time.perf_counter() - start)
    return [min(seconds) for seconds in times]


def over_forward(spec: str, analysis: PerImage, rounds: int) -> None:
    """Time of a micro-batch with an analysis over that of a bare forward pass to its last tap, printed."""
    subject = load(spec)
    run = Run((subject,), (tuple(analysis.default_taps(subject)),))
    (stage,) = analysis.stages(run)
    every, last = subject.expose(analysis.needs(run)), subject.expose(run.taps[0][-1:])
    images = tf.random.normal([BATCH, 224, 224, 3], seed=0)
    zeros = tf.zeros([BATCH], tf.int32)
    batch = Batch(images, zeros, tf.ones([BATCH]), tf.range(BATCH), zeros)
    step = tf.function(lambda b: analysis.step(stage, every(b.images, training=False), b, {}, run))
    bare = tf.function(lambda x: last(x, training=False)[run.taps[0][-1]])
    analysed, alone = best(rounds, lambda: step(batch), lambda: bare(images))
    print(f"{spec}, {BATCH} images: {analysed:.2f} s with {analysis.name}, {alone:.2f} s bare")
    print(f"ratio: {analysed / alone:.3f} (asked: at most 1.15)")


def vectorised(probs: np.ndarray) -> np.ndarray:
    """Distances of each head: the matrix in a loop, the weighing in NumPy."""
    count = SIDE * SIDE
    distances = np.zeros((count, count), np.float32)
    for q in range(count):
        for k in range(count):
            distances[q, k] = PATCH * math.hypot(q // SIDE - k // SIDE, q % SIDE - k % SIDE)
    grid = probs[:, :, 1:, 1:]
    return ((grid * distances).sum(-1) / grid.sum(-1)).mean((0, 2))


def looped(probs: np.ndarray) -> float:
    """The distance of one head on one image, query by query and key by key."""
    total = 0.0
    for q in range(SIDE * SIDE):
        weighed = mass = 0.0
        for k in range(SIDE * SIDE):
            a = probs[1 + q, 1 + k]
            weighed += a * PATCH * math.sqrt((q // SIDE - k // SIDE) ** 2 + (q % SIDE - k % SIDE) ** 2)
            mass += a
        total += weighed / mass
    return total / SIDE**2


def main() -> None:
    """Prints the ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    probs = tf.nn.softmax(tf.random.normal([BATCH, 12, 197, 197], seed=0))
    array = probs.numpy()
    # the matrix is made once per run: inside the traced function it is a constant
    ours = tf.function(lambda p: attention_sums(p, 1, grid_distances(SIDE, SIDE, (PATCH, PATCH))))
    a, b, c = best(
        2 * rounds, lambda: ours(probs).distance.numpy(), lambda: vectorised(array), lambda: looped(array[0, 0])
    )
    c *= BATCH * 12
    print(
        f"distances of [16, 12, 197, 197]: {1e3 * a:.1f} ms; NumPy vectorised {1e3 * b:.1f} ms; double loop {c:.1f} s"
    )
    print(f"ratio to vectorised: {b / a:.1f} (asked: 3); to the double loop: {c / a:.0f} (asked: 100)")
    over_forward("vit_b16@random", AttentionDistance(), rounds)


if __name__ == "__main__":
    main()
