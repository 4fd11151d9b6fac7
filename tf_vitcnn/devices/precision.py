"""What float32 means: the one switch between exact products and those that an accelerator makes of fewer bits.

TensorFlow leaves it open by default: GPUs then multiply in TF32 (ten bits of mantissa), and XLA lowers every product
for a TPU at default precision, which is bfloat16 (eight). It holds for the process, whatever the strategy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf


def precision(compute: str = "float32") -> None:
    """Says how float32 tensors are multiplied from now on: exactly, unless something faster was asked for by name."""
    tf.config.experimental.enable_tensor_float_32_execution(compute != "float32")


@contextlib.contextmanager
def in_precision(compute: str = "float32") -> Iterator[None]:
    """The same inside a block; afterwards the caller's own choice stands again."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    precision(compute)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
