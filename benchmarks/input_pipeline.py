"""Images per second of the input pipeline alone, and of vit_b32's forward pass on the same machine.

python benchmarks/input_pipeline.py [images]: JPEGs as large as ImageNet's (224 to 500 pixels, about 100 kB), decoded,
resized to 224, batched by 64. The project asks that the pipeline be at least three times as fast as the network.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_vitcnn import models
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.data.sources import batches, draw, open_source

BATCH = 64
ROUNDS = 3  # taken in turns, the best of each counts: other work on the machine disturbs both alike


def write_photographs(folder: Path, count: int) -> float:
    """Seeded pictures with detail on all scales; returns their mean size in kB."""
    rng = np.random.default_rng(0)
    for i in range(count):
        size = tuple(int(side) for side in rng.integers(224, 501, 2))
        picture = np.zeros((size[1], size[0], 3))
        for scale in (2, 8, 32, 128):
            coarse = rng.normal(size=(size[1] // scale + 2, size[0] // scale + 2, 3)).astype(np.float32)
            layers = [Image.fromarray(coarse[..., c]).resize(size, Image.Resampling.BICUBIC) for c in range(3)]
            picture += np.stack(layers, -1) * scale**0.5 * 14
        pixels = np.clip(picture + 128, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.jpg", quality=92)
    return sum(f.stat().st_size for f in folder.iterdir()) / count / 1000


def rate(work: Callable[[], None], images: int) -> float:
    """Images per second of one call."""
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def main() -> None:
    """Prints both rates and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    with tempfile.TemporaryDirectory() as name:
        kilobytes = write_photographs(Path(name), count)
        source = open_source(f"folder:{name}")
        order = draw(source, None, seed=0)

        def read() -> None:
            for _ in batches(source, order, (Preprocessing((224, 224)),), BATCH):
                pass

        model = models.build("vit_b32", classes=0)
        forward = tf.function(lambda x: tf.reduce_sum(list(model(x).values())[-1]))
        images = tf.zeros([BATCH, 224, 224, 3])

        def see() -> None:
            for _ in range(2):
                forward(images)

        read(), see()  # warm: page cache, traces
        pairs = [(rate(read, count), rate(see, 2 * BATCH)) for _ in range(ROUNDS)]
    pipeline, network = (max(column) for column in zip(*pairs, strict=True))
    print(f"input pipeline: {pipeline:.0f} images/s ({count} JPEGs, {kilobytes:.0f} kB each)")
    print(f"vit_b32 forward: {network:.0f} images/s")
    print(f"ratio: {pipeline / network:.1f} (asked: 3)")


if __name__ == "__main__":
    main()
