"""MinibatchCKA on activations held in memory: against other packages, and growth with the number of layers.

python benchmarks/hsic.py [--layers 24] [--features 80000] [--examples 256]

A peer that is not installed is skipped with a note. `legacy metric` is the published TensorFlow way of computing the
same: every Gram matrix whole, flattened and kept, one product for all pairs. In bfloat16 the activations come in
float32 as well, and the peers multiply them in bfloat16.
"""

import argparse
import importlib
import statistics
import sys
import time
from functools import partial
from pathlib import Path

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


def legacy(layers, precision="float32"):
    """Whole Grams, unbiased centring by means, flattened, one product."""
    rows = []
    for layer in layers:
        x = tf.cast(tf.reshape(layer, [layer.shape[0], -1]), precision)
        gram = tf.cast(tf.matmul(x, x, transpose_b=True), tf.float32)
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


def torch_grams(layers, precision="float32"):
    """The Gram matrices as every torch package makes them: whole."""
    torch = importlib.import_module("torch")
    flat = [torch.from_numpy(np.asarray(memoryview(layer))).flatten(1) for layer in layers]
    return torch.stack([torch.mm(y, y.t()).float() for y in (x.to(getattr(torch, precision)) for x in flat)])


def torch_cka():
    """The pairwise HSIC of the package torch_cka, without its hooks."""
    hsic = importlib.import_module("torch_cka").CKA._HSIC

    class Place:
        device = "cpu"

    def run(layers):
        grams = torch_grams(layers)
        for gram in grams:
            gram.fill_diagonal_(0.0)
        own = [hsic(Place, k, k) for k in grams]
        return [
            [hsic(Place, k, m) / (a * b) ** 0.5 for m, b in zip(grams, own, strict=True)]
            for k, a in zip(grams, own, strict=True)
        ]

    return run


def pytorch_cka(precision="float32"):
    """All pairs in one contraction, as the package pytorch-cka does for a model with itself."""
    sys.path = [path for path in sys.path if path != str(Path(__file__).parent)]  # our cka.py hides that package
    hsic_cross = importlib.import_module("cka.hsic").hsic_cross

    def run(layers):
        grams = torch_grams(layers, precision)
        products = hsic_cross(grams, grams)
        own = products.diagonal()
        return products / (own[:, None] * own[None, :]).sqrt()

    return run


def ckatorch():
    """Batches of pairs, as the packages ckatorch and cka-pytorch do."""
    hsic1 = importlib.import_module("ckatorch.hsic").hsic1
    torch = importlib.import_module("torch")

    def run(layers):
        grams = torch_grams(layers)
        products = torch.stack([hsic1(gram.expand_as(grams), grams) for gram in grams])
        own = products.diagonal()
        return products / (own[:, None] * own[None, :]).sqrt()

    return run


def installed(peer):
    """Whether a peer can be imported; says which cannot."""
    try:
        peer()
    except ImportError as missing:
        print(f"{peer.__name__}: skipped, {missing}")
        return False
    return True


def activations(layers, features, examples, distinct=24):
    """Random layers; more than `distinct` repeat, so that memory does not bound the count."""
    made = [tf.random.stateless_normal([examples, features], seed=[i, 0]) for i in range(min(layers, distinct))]
    return [made[i % len(made)] for i in range(layers)]


def timed(runs, layers, repeats):
    """Median seconds of each of some functions, interleaved after a warm-up."""
    seconds = {name: [] for name in runs}
    for repeat in range(1 + repeats):
        for name, run in runs.items():
            begun = time.perf_counter()
            np.asarray(run(layers))
            if repeat:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main():
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--features", type=int, default=80_000)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    peers = {"legacy metric": legacy}
    peers |= {peer.__name__: peer() for peer in (torch_cka, pytorch_cka, ckatorch) if installed(peer)}
    narrow = {"legacy metric": partial(legacy, precision="bfloat16")}
    if "pytorch_cka" in peers:
        narrow["pytorch_cka"] = pytorch_cka("bfloat16")
    layers = activations(args.layers, args.features, args.examples)
    print(f"{args.layers} layers, p = {args.features}, n = {args.examples}")
    for precision, others in (("float32", peers), ("bfloat16", narrow)):
        times = timed({"ours": ours(precision), **others}, layers, args.repeats)
        best = min(seconds for name, seconds in times.items() if name != "ours")
        for name, seconds in times.items():
            print(f"  {precision}, {name}: {seconds:.2f} s, best peer / this = {best / seconds:.2f}")
    print("growth at p = 20000, n = 256")
    before = None
    for count in (50, 100, 200, 400):
        seconds = timed({"ours": ours("float32")}, activations(count, 20_000, 256), args.repeats)["ours"]
        print(f"  L = {count}: {seconds:.2f} s" + (f", {seconds / before:.2f} of half as many" if before else ""))
        before = seconds


if __name__ == "__main__":
    main()
