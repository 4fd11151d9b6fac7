"""Processor seconds until CKA's walk is traced, with and without one trace for equal blocks.

python benchmarks/first_step.py [--model vit_b32@random] [--images 4]

The first step of a minibatch less a later one, at the network's own size; seconds of the processor, because a trace
keeps one core busy whatever else runs. `apart` gives every segment a function of its own, as if no two were alike.
"""

import argparse
import time

import numpy as np
import tensorflow as tf

import tf_vitcnn
from tf_vitcnn import taps as names_of
from tf_vitcnn.analyses.base import Batch, Run
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.walk.gram_sums import GramSums
from tf_vitcnn.walk.grams import GramWalk


def walk_of(subject, n, together):
    """A walk of one minibatch, and a call that steps it."""
    bound = Run((subject,), (tuple(names_of.default(subject.taps)),), images=n, batch=n)
    replicas = Replicas(named_strategy("cpu"))
    walk = GramWalk([GramSums(CKA(repeats=1), bound, replicas)], replicas)
    if not together:
        for part in walk.chain:
            part.step = replicas.function(part._step)
    images = tf.random.stateless_uniform([n, *subject.model.inputs[0].shape[1:]], [0, 0])
    walk.prepare([images])
    chunk = Batch((images,), None, tf.ones([n]), None, tf.zeros([n], tf.int32))
    return walk, lambda: walk.step([chunk], [tf.constant(0)], [tf.constant(1.0)])


def first_step(subject, n, together):
    """Processor seconds of the first step less those of the second, how many programs there are, and the sums."""
    walk, step = walk_of(subject, n, together)
    seconds = []
    for _ in range(2):
        begun = time.process_time()
        sums = step()
        seconds.append(time.process_time() - begun)
    programs = walk.programs if together else len(walk.chain)
    return seconds[0] - seconds[1], programs, sums


def main():
    """Prints both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b32@random")
    parser.add_argument("--images", type=int, default=4)
    args = parser.parse_args()
    subject = tf_vitcnn.load(args.model)
    found = {name: first_step(subject, args.images, name == "together") for name in ("together", "apart")}
    for name, (seconds, programs, _) in found.items():
        print(f"{args.model}, equal blocks {name}: {seconds:.1f} s of a processor, {programs} programs")
    same = all(np.array_equal(found["together"][2][key], value) for key, value in found["apart"][2].items())
    print(f"ratio {found['apart'][0] / found['together'][0]:.1f}; the same sums: {same}")


if __name__ == "__main__":
    main()
