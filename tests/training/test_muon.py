"""Muon against its definition in plain numpy, and AdamW where it is AdamW."""

import keras
import numpy as np
import pytest

from tf_vitcnn.training.muon import Muon, matrix, orthogonal

SHAPES = {"stem": (2, 2, 3, 8), "q": (8, 2, 4), "attn_out": (2, 4, 8), "mlp": (8, 32), "bias": (32,), "head": (8, 5)}


@pytest.fixture
def network():
    """Weights of every kind, kernels named as Keras names them, and a gradient of each."""
    rng = np.random.default_rng(0)
    name = {kind: "bias" if kind == "bias" else "kernel" for kind in SHAPES}
    weights = {
        kind: keras.Variable(rng.normal(size=shape).astype(np.float32), name=name[kind])
        for kind, shape in SHAPES.items()
    }
    return weights, {kind: rng.normal(size=shape).astype(np.float32) for kind, shape in SHAPES.items()}


def stepped(optimizer, weights, gradients, steps):
    """The weights after some steps along the same gradients."""
    start = {kind: weight.numpy() for kind, weight in weights.items()}
    for _ in range(steps):
        optimizer.apply_gradients(
            zip(map(keras.ops.convert_to_tensor, gradients.values()), weights.values(), strict=True)
        )
    after = {kind: weight.numpy() for kind, weight in weights.items()}
    for kind, weight in weights.items():
        weight.assign(start[kind])
    return start, after


@pytest.mark.parametrize(
    "shape, folded",
    [
        ((8, 2, 4), (8, 8)),  # width to heads
        ((2, 4, 8), (8, 8)),  # heads to width
        ((16, 2, 4), (16, 8)),
        ((2, 4, 16), (8, 16)),
        ((3, 3, 5, 7), (45, 7)),
        ((6, 9), (6, 9)),
    ],
)
def test_kernels_are_matrices_of_inputs_and_outputs(shape, folded):
    assert matrix(shape) == folded


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_a_matrix_keeps_its_singular_vectors_and_loses_its_singular_values(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, singular, right = np.linalg.svd(values, full_matrices=False)
    inside = left.T @ orthogonal(keras.ops.convert_to_tensor(values)).numpy() @ right.T
    off = inside - np.diag(np.diag(inside))
    assert np.abs(off).max() < 1e-4
    of_note = singular / np.linalg.norm(singular) > 0.01
    assert np.diag(inside)[of_note].min() > 0.65
    assert np.diag(inside).max() < 1.25


def test_pixels_logits_and_all_that_is_no_kernel_move_as_under_adamw(network):
    settings = {"weight_decay": 0.05, "epsilon": 1e-8}
    _, ours = stepped(Muon(0.01, **settings), *network, steps=3)
    _, adamw = stepped(keras.optimizers.AdamW(0.01, **settings), *network, steps=3)
    same = {kind for kind in SHAPES if np.array_equal(ours[kind], adamw[kind])}
    assert same == {"stem", "bias", "head"}


def test_a_kernel_inside_moves_along_the_orthogonal_matrix_of_its_momentum(network):
    start, after = stepped(Muon(0.01, weight_decay=0.05), *network, steps=2)
    for kind in ("q", "attn_out", "mlp"):
        gradient = network[1][kind].astype(np.float64)
        expected, momentum = start[kind].astype(np.float64), np.zeros_like(gradient)
        for _ in range(2):
            momentum = 0.95 * momentum + gradient
            flat = (gradient + 0.95 * momentum).reshape(matrix(gradient.shape))
            direction = orthogonal(keras.ops.convert_to_tensor(flat)).numpy().reshape(gradient.shape)
            expected = expected * (1 - 0.01 * 0.05) - 0.01 * 0.2 * np.sqrt(max(flat.shape)) * direction
        np.testing.assert_allclose(after[kind], expected, atol=1e-5)


def test_steps_are_as_large_as_those_of_adamw(network):
    start, after = stepped(Muon(0.01, weight_decay=0.0), *network, steps=1)
    for kind in ("q", "attn_out", "mlp"):
        assert 0.1 < np.sqrt(np.mean((after[kind] - start[kind]) ** 2)) / 0.01 < 0.25
