"""Training throughput: `scripts/train.py`'s loop, pipeline included, against plain Keras `fit` on data in memory.

python benchmarks/training.py [steps] [rounds]: a network of vit_ti16's size at 64 pixels (patch 8, 65 tokens), batches
of 64. Plain: the same network, `compile(AdamW, cross-entropy)` and `fit` on preprocessed float32 batches that are in
memory already, no augmentation, no state saved. The project asks for at least 0.9 of that.
"""

import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_vitcnn import models
from tf_vitcnn.training import fit
from tf_vitcnn.training.journal import Journal
from tf_vitcnn.training.recipe import Recipe
from tf_vitcnn.training.resume import Progress
from tf_vitcnn.training.task import Task

IMAGES, SIDE, CLASSES, BATCH = 2048, 64, 200, 64


def plain(images: np.ndarray, labels: np.ndarray) -> tuple[keras.Model, tf.data.Dataset]:
    """The network as anyone would train it."""
    taps = models.build(models.ViTSpec(8, 192, 12, 3, 768), image_size=SIDE, classes=CLASSES)
    net = keras.Model(taps.input, taps.output["head/logits"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    net.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.05, global_clipnorm=1.0), loss=loss, metrics=["accuracy"])
    inputs = (images.astype(np.float32) - 127.5) / 127.5
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    return net, tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(BATCH).repeat()


def main() -> None:
    """Prints images per second of both, in turns, and the ratio of the best."""
    steps, rounds = (int(a) for a in [*sys.argv[1:], "10", "3"][:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(IMAGES) % CLASSES
    with tempfile.TemporaryDirectory() as name:
        np.savez(Path(name) / "x.npz", images=images, labels=labels)
        data = f"npz:{Path(name) / 'x.npz'}"
        recipe = Recipe(model="vit_custom", data=data, patch=8, width=192, depth=12, heads=3, batch=BATCH, flip=True)
        task = Task(recipe, fit.Machine())
        quiet = {"verbose": 0, "shuffle": False, "epochs": 1, "steps_per_epoch": steps}
        journal = Journal(task.order, Progress(), None, task.rate, lambda at: True, lambda rows: None, pause=1e9)

        def ours() -> None:
            task.net.fit(task.steps(0), callbacks=[journal], **quiet)

        net, batches = plain(images, labels)

        def theirs() -> None:
            net.fit(batches, **quiet)

        best = {"ours": 0.0, "plain": 0.0}
        for turn in range(rounds + 1):  # the first compiles
            for label, work in (("ours", ours), ("plain", theirs)):
                start, cpu = time.perf_counter(), time.process_time()
                work()
                wall, cpu = time.perf_counter() - start, time.process_time() - cpu
                if turn:
                    best[label] = max(best[label], steps * BATCH / wall)
                print(f"{label:5}  {steps * BATCH / wall:7.1f} images/s, {cpu / steps * 1000:6.0f} ms of CPU a step")
    print(f"ours / plain: {best['ours'] / best['plain']:.3f} (expected at least 0.9)")


if __name__ == "__main__":
    main()
