"""MinibatchCKA on activations held in memory: against other packages, and growth with the number of layers.

python benchmarks/hsic.py [--layers 24] [--features 80000] [--examples 256]

A peer that is not installed is skipped with a note. `legacy metric` is the published TensorFlow way of computing the
same: every Gram matrix whole, in float32, flattened and kept, one product for all pairs.
"""

import argparse
import importlib
import statistics
import time

import numpy as np
import tensorflow as tf

from tf_vitcnn.stats import MinibatchCKA


def ours(precision):
    """One minibatch through our metric."""

    def run(layers):
        metric = MinibatchCKA(precision=precision)
        metric.update_state(layers)
        return metric.result()

    return run


def legacy(layers):
    """Whole Grams, unbiased centring by means, flattened, one product."""
    rows = []
    for layer in layers:
        x = tf.reshape(layer, [layer.shape[0], -1])
        gram = tf.matmul(x, x, transpose_b=True)
        n = int(gram.shape[0])
        gram = tf.linalg.set_diag(gram, tf.zeros(n))
        means = tf.reduce_sum(gram, 0) / (n - 2)
        means -= tf.reduce_sum(means) / (2 * (n - 1))
        gram = tf.linalg.set_diag(gram - means[:, None] - means[None, :], tf.zeros(n))
        rows.append(tf.reshape(gram, [-1]))
    stack = tf.stack(rows)
    products = tf.matmul(stack, stack, transpose_b=True)
    norm = tf.sqrt(tf.linalg.diag_part(products))
    return products / norm[:, None] / norm[None, :]


def torch_cka():
    """The pairwise HSIC of the package torch_cka, without its hooks."""
    torch = importlib.import_module("torch")
    kind = importlib.import_module("torch_cka").CKA
    hsic = kind._HSIC

    def run(layers):
        grams = []
        for layer in layers:
            x = torch.from_numpy(layer.numpy()).flatten(1)
            gram = x @ x.t()
            gram.fill_diagonal_(0.0)
            grams.append(gram)
        own = [hsic(None, k, k) for k in grams]
        return [
            [hsic(None, k, m) / (a * b) ** 0.5 for m, b in zip(grams, own, strict=True)]
            for k, a in zip(grams, own, strict=True)
        ]

    return run


def activations(layers, features, examples, distinct=24):
    """Random layers; more than `distinct` repeat, so that memory does not bound the count."""
    made = [tf.random.stateless_normal([examples, features], seed=[i, 0]) for i in range(min(layers, distinct))]
    return [made[i % len(made)] for i in range(layers)]


def timed(run, layers, repeats):
    """Seconds of each repeat after a warm-up."""
    run(layers)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        np.asarray(run(layers))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def main():
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--features", type=int, default=80_000)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    runs = {"float32": ours("float32"), "bfloat16": ours("bfloat16"), "legacy metric": legacy}
    try:
        runs["torch_cka"] = torch_cka()
    except ImportError as missing:
        print(f"torch_cka: skipped, {missing}")
    layers = activations(args.layers, args.features, args.examples)
    times = {name: timed(run, layers, args.repeats) for name, run in runs.items()}
    best = min(seconds for name, seconds in times.items() if name not in ("float32", "bfloat16"))
    print(f"{args.layers} layers, p = {args.features}, n = {args.examples}")
    for name, seconds in times.items():
        print(f"  {name}: {seconds:.2f} s, best peer / this = {best / seconds:.2f}")
    print("growth at p = 20000, n = 256")
    before = None
    for count in (50, 100, 200, 400):
        seconds = timed(ours("float32"), activations(count, 20_000, 256), args.repeats)
        print(f"  L = {count}: {seconds:.2f} s" + (f", {seconds / before:.2f} of half as many" if before else ""))
        before = seconds


if __name__ == "__main__":
    main()
