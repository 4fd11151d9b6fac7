"""Where the time of a training step goes: input, forward, backward, optimizer; by compiler, precision and optimizer.

python benchmarks/training_step.py [steps [setting ...]]: the networks of plans/tiny_imagenet.toml at 64 pixels, batches
of 128, random photographs. Each part is timed alone and warm; the whole step is what `fit` runs.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.devices.precision import in_precision
from tf_vitcnn.training import fit
from tf_vitcnn.training.learner import cross_entropy
from tf_vitcnn.training.recipe import Recipe
from tf_vitcnn.training.task import Task

IMAGES, SIDE, CLASSES, BATCH = 1024, 64, 200, 128
NETWORKS: dict[str, dict[str, Any]] = {
    "vit": {"model": "vit_custom", "patch": 8, "width": 128, "depth": 6, "heads": 8},
    "bit": {"model": "bit_custom", "width": 32, "units": (2, 2, 2)},
}
SETTINGS: dict[str, tuple[bool, dict[str, Any]]] = {
    "float32 XLA": (True, {}),
    "bfloat16 XLA": (True, {"precision": "bfloat16"}),
    "bfloat16": (False, {"precision": "bfloat16"}),
    "float32": (False, {}),
    "Muon XLA": (True, {"optimizer": "muon"}),
    "Muon": (False, {"optimizer": "muon"}),
}


def main() -> None:
    """Prints milliseconds per image of every part, network and setting."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        photographs = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
        np.savez(Path(name) / "x.npz", images=photographs, labels=np.arange(IMAGES) % CLASSES)
        print(f"{'ms per image':32}{'input':>9}{'forward':>9}{'+backward':>10}{'step':>9}")
        for setting in sys.argv[2:] or SETTINGS:
            jit, precision = SETTINGS[setting]
            for network, sizes in NETWORKS.items():
                recipe = Recipe(
                    data=f"npz:{Path(name) / 'x.npz'}",
                    batch=BATCH,
                    flip=True,
                    mixup=0.2,
                    epochs=99,
                    **sizes,
                    **precision,
                )
                parts = measured(Task(recipe, fit.Machine(jit=jit)), recipe, jit, steps)
                row = "".join(f"{1000 * part / BATCH:9.2f}" for part in parts)
                print(f"{network + ', ' + setting:32}{row}", flush=True)


def measured(task: Task, recipe: Recipe, jit: bool, steps: int) -> list[float]:
    """Seconds of a step's input, forward pass, forward and backward pass, and of the whole step."""
    data = iter(task.steps(0))
    images, targets = next(data)
    net, variables = task.net, task.net.trainable_variables

    @tf.function(jit_compile=jit)
    def forward(images: Any) -> Any:
        return tf.reduce_sum(net(images, training=True))

    @tf.function(jit_compile=jit)
    def backward(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(targets, tf.cast(net(images, training=True), tf.float32), 0.1))
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, variables)]

    net.make_train_function()
    step = net.train_function
    with in_precision(recipe.compute):
        return [
            best(lambda: next(data), steps),
            best(lambda: forward(images).numpy(), steps),
            best(lambda: [g.numpy() for g in backward(images, targets)], steps),
            best(lambda: step(data), steps),
        ]


def best(do: Callable[[], Any], times: int) -> float:
    """The shortest of several runs, the first (which compiles) left out."""
    do()
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        do()
        took.append(time.perf_counter() - begun)
    return min(took)


if __name__ == "__main__":
    main()
