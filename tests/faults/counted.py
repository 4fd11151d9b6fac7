"""Imported by a run: every image that `noise` reads is noted, one line each, in the file that $READ_IMAGES names."""

import os

import tensorflow as tf

from tf_vitcnn.data.arrays import Noise

load = Noise.load


def note(index):
    """One line, there at once: the run may be killed."""
    with open(os.environ["READ_IMAGES"], "a") as file:  # noqa: PTH123
        file.write(f"{index}\n")
    return index


def counted(self, index):
    """As the source's own."""
    return load(self, tf.ensure_shape(tf.numpy_function(note, [index], tf.int64), []))


Noise.load = counted
