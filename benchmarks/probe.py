"""Probes from activations against scikit-learn; all blocks' probes against the bare forward passes.

python benchmarks/probe.py [solve] [walk]: 600 probes (12 blocks x 50 tokens of width 768, 100 classes, 1000 training
and 5000 test images, 31 lambdas), timed beside a sample of scikit-learn's RidgeClassifierCV and of one Ridge fit per
lambda, scaled to 600; asked: 8 and 20 times faster, below 6 GB. Then the readouts cls and gap of all blocks of vit_b32,
a whole run beside the two forward passes over the same images; asked: at most 1.2.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

BLOCKS, TOKENS, WIDTH, CLASSES = 12, 50, 768, 100
TRAIN, TEST, MICRO = 1000, 5000, 100
SAMPLE = 2  # probes that scikit-learn fits per round and type
ROUNDS = 2


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


class Problem:
    """Activations of one model: class centres plus noise, stacked as the walk files them."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.centres = 0.15 * self.rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)
        self.label = np.arange(TRAIN) % CLASSES
        self.role = (np.arange(TRAIN) >= TRAIN - TRAIN // 10).astype(np.int32)
        self.test_label = np.arange(TEST) % CLASSES
        self.taps = [f"block{i:02d}/resid/post" for i in range(BLOCKS)]
        self.rows = {tap: self.features(self.label, i) for i, tap in enumerate(self.taps)}  # each [n, s, p]

    def features(self, label: np.ndarray, seed: int) -> np.ndarray:
        """Activations [n, s, p] of images with these labels."""
        noise = np.random.default_rng(seed).standard_normal((len(label), TOKENS, WIDTH), dtype=np.float32)
        noise += self.centres[label][:, None]
        return noise


def ours(problem: Problem) -> tuple[float, float, np.ndarray]:
    """Seconds to fit and to test all 600, and the accuracies [600]; making test activations is not timed."""
    import tensorflow as tf

    from tf_vitcnn.analyses import _probe_fit
    from tf_vitcnn.analyses.base import Batch
    from tf_vitcnn.analyses.layout import Grid
    from tf_vitcnn.analyses.probe.features import Reader

    grid = Grid(1, TOKENS, (), WIDTH, "tokens")
    readers = [Reader(tap, grid.names, grid, grid, 1) for tap in problem.taps]
    totals = {f"rows/{tap}": rows for tap, rows in problem.rows.items()}
    totals |= {"rows/label": problem.label, "rows/role": problem.role}
    fit, found = timed(lambda: _probe_fit.solve(readers, totals, {}, CLASSES))
    constants = {key: tf.constant(value) for key, value in found.items()}

    @tf.function
    def step(values: Any, label: Any, constants: Any) -> dict[str, Any]:
        batch = Batch(None, label, tf.ones([MICRO]), None, tf.zeros([MICRO], tf.int32))
        return _probe_fit.tested({r: x for r, x in zip(readers, values, strict=True)}, batch, constants)

    label = tf.constant(problem.test_label[:MICRO], tf.int32)
    values = [tf.constant(problem.features(problem.test_label[:MICRO], 99 + i).swapaxes(0, 1)) for i in range(BLOCKS)]
    step(values, label, constants)  # traced
    test, total = 0.0, {}
    for _ in range(TEST // MICRO):  # the same images again: their number is what costs
        seconds, sums = timed(lambda: {k: v.numpy() for k, v in step(values, label, constants).items()})
        test += seconds
        total = {k: total.get(k, 0) + v for k, v in sums.items()}
    accuracy = np.concatenate([total[f"correct/{tap}"] for tap in problem.taps]) / TEST
    return fit, test, accuracy


def with_cv(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """RidgeClassifierCV over all lambdas."""
    from sklearn.linear_model import RidgeClassifierCV

    from tf_vitcnn.stats.ridge import LAMBDAS

    return RidgeClassifierCV(alphas=LAMBDAS).fit(x, y).predict(test)


def one_by_one(x: np.ndarray, y: np.ndarray, role: np.ndarray, test: np.ndarray) -> np.ndarray:
    """A Ridge fit for every lambda, the best on the held-out part, and a last fit on all."""
    from sklearn.linear_model import Ridge

    from tf_vitcnn.stats.ridge import LAMBDAS

    target = 2 * np.eye(CLASSES, dtype=x.dtype)[y] - 1
    fit, held = role == 0, role == 1
    errors = [
        ((Ridge(alpha=float(l2)).fit(x[fit], target[fit]).predict(x[held]) - target[held]) ** 2).sum() for l2 in LAMBDAS
    ]
    best = float(LAMBDAS[int(np.argmin(errors))])
    return Ridge(alpha=best).fit(x, target).predict(test).argmax(1)


def theirs(problem: Problem, kind: str) -> tuple[float, float]:
    """Seconds of both for 600 probes of that type, scaled from the fastest of a sample."""
    test = problem.features(problem.test_label, 77)
    seconds: dict[str, list[float]] = {"cv": [], "one": []}
    label, role = problem.label, problem.role
    for s in range(SAMPLE):
        x = np.ascontiguousarray(problem.rows[problem.taps[0]][:, s], kind)
        z = np.ascontiguousarray(test[:, s], kind)
        seconds["cv"].append(timed(partial(with_cv, x, label, z))[0])
        seconds["one"].append(timed(partial(one_by_one, x, label, role, z))[0])
    scale = BLOCKS * TOKENS
    return min(seconds["cv"]) * scale, min(seconds["one"]) * scale


def solve() -> None:
    """Prints the ratios of 600 probes, to scikit-learn in our precision (float64) and in the features' own."""
    problem = Problem()
    rounds = [ours(problem) for _ in range(ROUNDS)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    fit, test, accuracy = min(rounds, key=lambda r: r[0] + r[1])
    print(f"600 probes: {fit + test:.1f} s (fit {fit:.1f}, test {test:.1f}), mean accuracy {accuracy.mean():.3f}")
    for kind in ("float64", "float32"):
        cv, one = (min(column) for column in zip(*(theirs(problem, kind) for _ in range(ROUNDS)), strict=True))
        print(f"RidgeClassifierCV, {kind}: {cv:.0f} s, ratio {cv / (fit + test):.1f} (asked: 8)")
        print(f"a Ridge fit per lambda, {kind}: {one:.0f} s, ratio {one / (fit + test):.1f} (asked: 20)")
    print(f"peak memory: {peak:.1f} GB (asked: 6)")


def walk(images: int = 640, classes: int = 10) -> None:
    """Prints the ratio of a whole probe run and the two forward passes."""
    import tensorflow as tf

    import tf_vitcnn
    from tf_vitcnn.data.sources import batches, open_source

    pixels = np.random.default_rng(0).integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "images.npz"
    np.savez(file, images=pixels, labels=np.arange(images) % classes)
    source = open_source(f"npz:{file}")
    subject = tf_vitcnn.load("vit_b32@random")
    model = subject.expose(["head/logits"])
    forward = tf.function(lambda x: model(x, training=False)["head/logits"])

    def bare() -> None:
        for _ in range(2):
            for pictures, _ in batches(source, np.arange(images), (subject.preprocessing,), 32):
                forward(pictures[0]).numpy()

    def probe() -> None:
        spec = f"npz:{file}"
        tf_vitcnn.run("probe", subject, spec, test=spec, shots="all", readouts=("cls", "gap"))

    bare(), probe()  # warm
    pairs = [(timed(bare)[0], timed(probe)[0]) for _ in range(ROUNDS)]
    alone, whole = (min(column) for column in zip(*pairs, strict=True))
    print(f"two forward passes over {images} images: {alone:.1f} s; cls and gap of all blocks: {whole:.1f} s")
    print(f"ratio: {whole / alone:.2f} (asked: 1.2)")


if __name__ == "__main__":
    for part in sys.argv[1:] or ("solve", "walk"):
        {"solve": solve, "walk": walk}[part]()
