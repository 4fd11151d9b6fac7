"""Muon: AdamW whose steps of the kernels inside the network are orthogonal matrices.

A kernel's momentum M (inputs x outputs) is replaced by the nearest matrix with equal singular values, which a few
steps of a polynomial approach (Jordan et al., 2024), scaled so that its entries are as large as AdamW's (Liu et al.,
2025): learning rate and decay keep their meaning. What touches pixels or logits, and all that is no kernel, is AdamW's.
Keras has a Muon too, in later versions than the oldest here; it leaves kernels of three axes, attention's, to AdamW.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

MOMENTUM = 0.95
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # steep at 0: five steps bring singular values from 0.01 near 1
POLYNOMIAL_STEPS = 5
ENTRIES = 0.2  # root mean square of AdamW's steps, in learning rates


class Muon(keras.optimizers.AdamW):
    """AdamW, but for the kernels between the first and the last."""

    def build(self, variables: Any) -> None:
        """Chooses the kernels; every variable has AdamW's two moments, of which a kernel uses the first."""
        super().build(variables)
        kernels = [index for index, variable in enumerate(variables) if "kernel" in variable.name]
        self.inside = {index: matrix(tuple(variables[index].shape)) for index in kernels[1:-1]}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        index = self._get_variable_index(variable)
        if index not in self.inside:
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self._momentums[index]
        self.assign(momentum, ops.add(ops.multiply(momentum, MOMENTUM), gradient))
        ahead = ops.add(gradient, ops.multiply(momentum, MOMENTUM))  # Nesterov's
        inputs, outputs = self.inside[index]
        step = orthogonal(ops.reshape(ahead, (inputs, outputs)))
        rate = ops.cast(learning_rate, variable.dtype) * ENTRIES * math.sqrt(max(inputs, outputs))
        self.assign_sub(variable, ops.multiply(ops.reshape(step, variable.shape), rate))


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a kernel: [.., i, o], or [i, h, d] and [h, d, o] of heads, where i and o are the larger."""
    if len(shape) == 3 and shape[0] >= shape[-1]:
        return shape[0], math.prod(shape[1:])
    return math.prod(shape[:-1]), shape[-1]


def orthogonal(matrix: Any) -> Any:
    """The matrix with its singular values brought near 1 (to 0.7 .. 1.2)."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    x = x / (ops.norm(x) + 1e-7)
    a, b, c = POLYNOMIAL
    for _ in range(POLYNOMIAL_STEPS):
        gram = x @ ops.transpose(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else ops.transpose(x)
