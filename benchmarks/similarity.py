"""Measures beside CKA on activations held in memory: values and time against the packages that compute them.

python benchmarks/similarity.py [--layers 12] [--examples 512] [--features 768]

All pairs of layers, each measure for itself, and ours all in one pass. A peer that is not installed is skipped with a
note: rsatoolbox and thingsvision (rsa), netrep (procrustes), and the `metrics.py` of platonic-rep (knn), which is no
package: put its folder on PYTHONPATH. Each is used as its documents say, and makes what it can once per layer.
"""

import argparse
import importlib
import statistics
import time

import numpy as np
import tensorflow as tf

from tf_vitcnn.stats import MinibatchCKA, measures

MEASURES = ("rsa", "knn", "procrustes")


def ours(measure):
    """All pairs of one measure, through what a user calls: [layers, layers]."""

    def metric(layers):
        made = MinibatchCKA(measures=(measure,))
        made.update_state(layers)
        return made.result().numpy()

    def procrustes(layers):
        roots = measures.roots(tf.stack([tf.matmul(x, x, transpose_b=True) for x in layers]))
        return measures.procrustes(measures.overlap(roots).numpy())

    return procrustes if measure == "procrustes" else metric


def pairs(one, layers):
    """A symmetric matrix of what a peer says of each pair."""
    count = len(layers)
    found = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1):
            found[i, j] = found[j, i] = one(layers[i], layers[j])
    return found


def rsatoolbox():
    """Rank correlation of all matrices of distances in one call."""
    dataset = importlib.import_module("rsatoolbox.data").Dataset
    rdm = importlib.import_module("rsatoolbox.rdm")

    def run(layers):
        made = rdm.calc_rdm([dataset(x.numpy().astype(float)) for x in layers], method="euclidean")
        return rdm.compare(made, made, method="spearman")

    return run


def thingsvision():
    """A matrix of distances per layer, correlated pair by pair."""
    rsa = importlib.import_module("thingsvision.core.rsa")

    def run(layers):
        made = [rsa.compute_rdm(x.numpy(), method="euclidean") for x in layers]
        return pairs(lambda a, b: rsa.correlate_rdms(a, b, correlation="spearman"), made)

    return run


def platonic_rep():
    """Shared neighbours by inner products, pair by pair; chance is taken out afterwards, as ours does."""
    torch, measure = importlib.import_module("torch"), importlib.import_module("metrics").AlignmentMetrics.measure

    def run(layers):
        made = [torch.from_numpy(x.numpy()) for x in layers]
        shared = pairs(lambda a, b: measure("mutual_knn", a, b, topk=measures.NEIGHBOURS), made)
        return measures.beyond_chance(shared, len(made[0]))

    return run


def netrep():
    """The angle between two layers after the best rotation, as ours writes it."""
    metric = importlib.import_module("netrep.metrics").LinearMetric(alpha=1.0)

    def run(layers):
        made = [x.numpy() for x in layers]
        return 1 - 2 / np.pi * pairs(metric.fit_score, made)

    return run


PEERS = {"rsa": (rsatoolbox, thingsvision), "knn": (platonic_rep,), "procrustes": (netrep,)}


def activations(layers, examples, features):
    """Layers that grow out of one another, on the unit sphere, where inner products and distances rank alike."""
    x, made = tf.random.stateless_normal([examples, features], seed=[0, 0]), []
    for i in range(layers):
        x = tf.math.l2_normalize(x + 0.5 * tf.random.stateless_normal([examples, features], seed=[1, i]), axis=1)
        made.append(x)
    return made


def seconds(run, layers, repeats):
    """The median of some runs after a warm-up, and what the last one found."""
    found, took = run(layers), []
    for _ in range(repeats):
        begun = time.perf_counter()
        found = run(layers)
        took.append(time.perf_counter() - begun)
    return statistics.median(took), found


def main():
    """Prints a line for each measure and peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    layers = activations(args.layers, args.examples, args.features)
    print(f"{args.layers} layers, n = {args.examples}, p = {args.features}, all pairs")
    for measure in MEASURES:
        own, value = seconds(ours(measure), layers, args.repeats)
        print(f"  {measure}, ours: {own:.3f} s")
        for peer in PEERS[measure]:
            try:
                run = peer()
            except ImportError as missing:
                print(f"  {measure}, {peer.__name__}: skipped, {missing}")
                continue
            took, theirs = seconds(run, layers, args.repeats)
            apart = np.abs(value - theirs).max()
            print(f"  {measure}, {peer.__name__}: {took:.3f} s, {took / own:.1f} times ours, values within {apart:.1e}")


if __name__ == "__main__":
    main()
