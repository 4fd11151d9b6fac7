"""CKA of all sublayers against the bare forward pass: time ratio and peak memory, medians of interleaved repeats.

python benchmarks/cka.py [--model vit_b32@random] [--batch 1024] [--repeats 3] [--precision float32 bfloat16]
"""

import argparse
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
from tf_vitcnn.surgery import segments
from tf_vitcnn.walk.feed import feed, minibatch_chunks
from tf_vitcnn.walk.gram_sums import GramSums
from tf_vitcnn.walk.grams import GramWalk
from tf_vitcnn.walk.plan import plan_grams


def forward(subject, source, indices, micro):
    """A bare forward pass, input pipeline included."""
    last = names_of.default(subject.taps)[-1]
    model = subject.expose([last])
    call = tf.function(lambda x: tf.reduce_sum(model(x, training=False)[last]))

    def run():
        for images, _ in batches(source, indices, (subject.preprocessing,), micro):
            call(images[0])

    return run


def reduced(subject, source, indices, micro, taps):
    """The segment walk with a plain sum per tap: what walking costs by itself."""
    calls = [
        tf.function(lambda c, s=s: (lambda out: ([tf.reduce_sum(v) for v in out[0].values()], out[1]))(s(c)))
        for s in segments(subject.model, taps)
    ]

    def run():
        carry = [images[0] for images, _ in batches(source, indices, (subject.preprocessing,), micro)]
        for call in calls:
            for i, c in enumerate(carry):
                carry[i] = call(c)[1]

    return run


def cka(subject, source, indices, precision, gigabytes):
    """One whole minibatch through the Gram walk."""
    analysis = CKA(repeats=1, precision=precision)
    n = len(indices)
    bound = Run((subject,), (tuple(names_of.default(subject.taps)),), images=n, batch=n)
    replicas = Replicas(named_strategy("cpu"))
    plan = plan_grams([analysis], [bound], limit(gigabytes, named_strategy("cpu")), 1)
    gram = GramWalk([GramSums(analysis, bound, replicas)], replicas, plan.segment.get)
    gram.prepare([next(iter(batches(source, indices[:32], (subject.preprocessing,), 32)))[0][0]])
    positions = minibatch_chunks(1, n, plan.micro, 1)
    picked = Picked(indices, np.zeros(n, np.int32))

    def run():
        chunks = [f.batch for f in feed(source, picked, positions, [subject.preprocessing], replicas)]
        gram.step(chunks, [tf.constant(0)], [tf.constant(1.0)])

    return run, plan


def main():
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b32@random")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=float, default=None)
    parser.add_argument("--precision", nargs="*", default=["float32"])
    parser.add_argument("--no-walk", action="store_true", help="leave out the walk with a sum per tap")
    args = parser.parse_args()
    subject = tf_vitcnn.load(args.model)
    source = open_source("noise")
    indices = np.arange(args.batch)
    taps = names_of.default(subject.taps)
    runs = {}
    for precision in args.precision:
        runs[f"cka {precision}"], plan = cka(subject, source, indices, precision, args.memory)
    runs = {
        "forward": forward(subject, source, indices, plan.micro),
        "walk with a sum per tap": reduced(subject, source, indices, plan.micro, taps),
        **runs,
    }
    if args.no_walk:
        del runs["walk with a sum per tap"]
    print(f"{args.model}: {len(taps)} taps, minibatch {args.batch}, micro-batch {plan.micro}")
    print(f"planned {plan.expected / 1e9:.1f} GB")
    times = {name: [] for name in runs}
    for repeat in range(args.repeats + 1):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            if repeat:  # the first is warm-up: traces
                times[name].append(time.perf_counter() - begun)
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times["forward"], strict=True)]
        print(f"{name}: {statistics.median(seconds):.1f} s, {statistics.median(ratios):.2f} of forward", flush=True)
    print(f"peak resident memory {peak() / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
