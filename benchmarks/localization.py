"""Localization of vit_b16's last block beside the bare forward pass over the same images.

python benchmarks/localization.py [minibatch] [rounds]: one minibatch of 512 noise images; asked: at most 1.15.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import tf_vitcnn
from tf_vitcnn.data.sources import batches, open_source

TAP = "block11/resid/post"
MICRO = 32


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Prints both times, in turns, and the ratio of the best ones."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    subject = tf_vitcnn.load("vit_b16@random")
    source = open_source("noise")
    model = subject.expose([TAP])
    forward = tf.function(lambda x: model(x, training=False)[TAP])

    def bare() -> None:
        for pictures, _ in batches(source, np.arange(images), (subject.preprocessing,), MICRO):
            forward(pictures[0]).numpy()

    def localize() -> None:
        tf_vitcnn.run("localization", subject, source, images=images, batch=images, taps=TAP)

    forward(tf.zeros([MICRO, 224, 224, 3]))
    pairs = [(timed(bare), timed(localize)) for _ in range(rounds)]
    alone, whole = (min(column) for column in zip(*pairs, strict=True))
    print(f"forward pass over {images} images: {alone:.1f} s; localization of {TAP}: {whole:.1f} s")
    print(f"ratio: {whole / alone:.2f} (asked: 1.15)")


if __name__ == "__main__":
    main()
