"""What products run in: float32 means float32, and anything faster is asked for by name.

TensorFlow leaves it open by default: GPUs then multiply in TF32 (ten bits of mantissa), and XLA lowers every product
for a TPU at default precision, which is bfloat16 (seven). `in_precision` says what products inside a network take,
with one meaning on every device: float32 tensors in and out, sums in float32, and the inputs of a product

    float32         as they are
    tensorfloat32   rounded to ten bits of mantissa: what a GPU's tensor cores do by themselves; elsewhere no faster
    bfloat16        rounded to seven: a TPU's own; on GPUs and TPUs the result of a product may be rounded as well

It holds for the process, whatever the strategy. What an analysis itself multiplies stays float32, but for per-image
analyses with tensorfloat32 on a GPU, where one switch serves the whole step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import keras
import tensorflow as tf

from tf_vitcnn.devices.strategy import kind_of
from tf_vitcnn.errors import unknown

CHOICES = ("float32", "tensorfloat32", "bfloat16")
# every product of a Keras layer or operation ends in one of these
PRODUCTS = {
    "numpy": ("matmul", "einsum", "dot", "tensordot"),
    "nn": ("conv", "depthwise_conv", "separable_conv", "conv_transpose", "dot_product_attention"),
}


def precision(compute: str = "float32") -> None:
    """Says how float32 tensors are multiplied from now on: exactly, or as a GPU does when it may take TF32."""
    tf.config.experimental.enable_tensor_float_32_execution(compute == "tensorfloat32")


def known(compute: str) -> None:
    """Refuses another word."""
    if compute not in CHOICES:
        raise unknown("--compute", compute, CHOICES)


@contextlib.contextmanager
def in_precision(compute: str = "float32") -> Iterator[None]:
    """What products run in inside a block; afterwards the caller's own choice stands again."""
    known(compute)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    on_tpu = bool(tf.config.list_logical_devices("TPU"))
    precision("float32" if on_tpu else compute)  # there the switch would mean bfloat16
    with contextlib.ExitStack() as patches:
        if compute != "float32":
            for module, names in PRODUCTS.items():
                home = getattr(keras.src.backend, module)
                for name in names:
                    patches.enter_context(patch.object(home, name, _rounding(getattr(home, name), compute)))
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)


def _rounding(product: Callable[..., Any], compute: str) -> Callable[..., Any]:
    """A product whose float32 inputs are rounded first."""

    def rounded(*args: Any, **kwargs: Any) -> Any:
        tensors = [tf.convert_to_tensor(a) for a in args if _is_tensor(a)]
        if any(t.dtype != tf.float32 for t in tensors):
            return product(*args, **kwargs)
        # units for bfloat16, and results in it: the sums are float32 all the same
        narrow = compute == "bfloat16" and kind_of(tf.distribute.get_strategy()) != "CPU"
        to = (lambda x: tf.cast(x, tf.bfloat16)) if narrow else ROUND[compute]
        result = product(*(to(tf.convert_to_tensor(a)) if _is_tensor(a) else a for a in args), **kwargs)
        return tf.cast(result, tf.float32) if narrow else result

    return rounded


def _is_tensor(value: Any) -> bool:
    return tf.is_tensor(value) or isinstance(value, keras.Variable)


def to_bfloat16(x: Any) -> Any:
    """The nearest numbers of bfloat16, in float32."""
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float32)


@tf.custom_gradient
def to_tensorfloat32(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The nearest numbers with ten bits of mantissa (even ones at ties), in float32."""
    bits = tf.bitcast(x, tf.uint32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(13, tf.uint32)), tf.constant(1, tf.uint32))
    bits = bits + tf.constant(0xFFF, tf.uint32) + odd
    return tf.bitcast(tf.bitwise.bitwise_and(bits, tf.constant(0xFFFFE000, tf.uint32)), tf.float32), lambda g: g


ROUND = {"tensorfloat32": to_tensorfloat32, "bfloat16": to_bfloat16}
