"""What errors over images cost CKA: paired minibatches with and without their sums, in turns in one process.

python benchmarks/errors.py [--model vit_b32@random] [--batch 1024] [--pairs 3]

`without` leaves out the groups' shares and the moments of pairs: such a run has no errors, and no analysis offers it.
The peak after the very first minibatch is that of `without`, the last one that of both.
"""

import argparse
import os
import statistics
import time

import numpy as np
import tensorflow as tf

import tf_vitcnn
from tf_vitcnn import taps as names_of
from tf_vitcnn.analyses.base import Picked, Run
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.data.sources import batches, open_source
from tf_vitcnn.devices.memory import limit, peak
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.walk.feed import feed, minibatch_chunks
from tf_vitcnn.walk.gram_sums import GramSums
from tf_vitcnn.walk.grams import GramWalk
from tf_vitcnn.walk.plan import plan_grams


class WithoutErrors(GramSums):
    """The same sums but those that errors are made of."""

    def _for_errors(self, *_):
        return {}


def step(kind, subject, source, n):
    """A function that takes one whole minibatch through the walk."""
    analysis = CKA(repeats=1)
    bound = Run((subject,), (tuple(names_of.default(subject.taps)),), images=n, batch=n)
    replicas = Replicas(named_strategy("cpu"))
    plan = plan_grams([analysis], [bound], limit(None, named_strategy("cpu")), 1)
    gram = GramWalk([kind(analysis, bound, replicas)], replicas, plan.segment.get)
    indices = np.arange(n)
    gram.prepare([next(iter(batches(source, indices[:32], (subject.preprocessing,), 32)))[0][0]])
    positions = minibatch_chunks(1, n, plan.micro, 1)
    picked = Picked(indices, (indices % 20).astype(np.int32))

    def run():
        chunks = [f.batch for f in feed(source, picked, positions, [subject.preprocessing], replicas)]
        return gram.step(chunks, [tf.constant(0)], [tf.constant(1.0)])

    return run


def main():
    """Prints each pair's ratio, their median, and the peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b32@random")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    subject, source = tf_vitcnn.load(args.model), open_source("noise")
    kinds = {"without": WithoutErrors, "with": GramSums}
    runs = {name: step(kind, subject, source, args.batch) for name, kind in kinds.items()}
    print(f"{args.model}: {len(names_of.default(subject.taps))} taps, minibatch {args.batch}", flush=True)
    wall, cpu = ({name: [] for name in runs} for _ in range(2))
    for turn in range(args.pairs + 1):
        # in turns; `without` is the very first, so that the peak after it is its own
        for name, run in list(runs.items())[:: -1 if turn % 2 else 1]:
            before, begun = os.times(), time.perf_counter()
            run()
            seconds, after = time.perf_counter() - begun, os.times()
            if turn:  # the first is warm-up: traces
                wall[name].append(seconds)
                cpu[name].append(after.user - before.user)
            times = f"{seconds:.2f} s wall, {after.user - before.user:.2f} s user"
            print(f"{turn} {name}: {times}, peak so far {peak() / 1e9:.2f} GB", flush=True)
    for unit, found in (("wall", wall), ("user", cpu)):
        ratios = [a / b for a, b in zip(found["with"], found["without"], strict=True)]
        print(f"{unit}: {', '.join(f'{r:.4f}' for r in ratios)} of without; median {statistics.median(ratios):.4f}")


if __name__ == "__main__":
    main()
