"""HSIC and CKA from Gram matrices: unbiased, for stacks of layers, one matrix product for all pairs.

    K = X Xᵀ, diagonal to zero, then U-centred:
    U_ij = K_ij - r_i/(n-2) - r_j/(n-2) + s/((n-1)(n-2)), i != j, zero diagonal
    HSIC1(K, L) = sum_ij U(K)_ij U(L)_ij / (n (n-3))        (Song et al., 2012; paper, appendix A)
    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), HSIC averaged over minibatches first, never clamped

float32 stays exact because features are centred before their product: without that, an offset of a thousand spreads
leaves no digit of the difference. Symmetric matrices travel folded: half the numbers, the same inner products.
Axes: r representation, n example, p feature, l layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

CONSTANT = 1e-6  # centred norm over uncentred norm at which a layer is constant and has no CKA
BLOCK = 128  # rows of a Gram block
# On a device small blocks read features once for each block that they meet. Of 1024 rows TPUs' compiler moves a third
# as many bytes in four blocks as in eight, for a twentieth more products. It copies what more than four chunks make up.
WIDE, JOINED = 256, 4
Product = Literal["wide", "narrow", "float32"]  # bfloat16 into float32, into bfloat16, or widened before


def gram(chunks: Sequence[Any], product: Product = "float32") -> Any:
    """X Xᵀ [r, n, n] in float32 of the chunks of X, each [r, b, p]: blocks i <= j, the rest by symmetry.

    `product` is how bfloat16 is multiplied; what multiplies it best says `devices.cores.bfloat16_product`.
    """
    each = int(chunks[0].shape[-2])
    blocks = _merge(chunks, min(JOINED, WIDE // each) if product == "wide" else BLOCK // each)
    upper = [[_product(left, right, product) for right in blocks[i:]] for i, left in enumerate(blocks)]
    rows = []
    for i, row in enumerate(upper):
        # left of the diagonal: some earlier block's mirror image
        mirrored = [tf.linalg.matrix_transpose(upper[j][i - j]) for j in range(i)]
        rows.append(tf.concat([*mirrored, *row], axis=-1))
    return tf.concat(rows, axis=-2)


def _merge(chunks: Sequence[Any], size: int) -> list[Any]:
    """Neighbouring chunks joined, so many together."""
    size = max(1, size)
    groups = [chunks[i : i + size] for i in range(0, len(chunks), size)]
    return [tf.concat(group, axis=-2) if len(group) > 1 else group[0] for group in groups]


def _product(x: Any, y: Any, product: Product) -> Any:
    if x.dtype == tf.bfloat16 and product == "wide":
        return tf.linalg.matmul(x, y, transpose_b=True, output_type=tf.float32)
    if x.dtype == tf.bfloat16 and product == "float32":
        x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    # TensorFlow's CPU kernel accumulates bfloat16 products in float32 too, but rounds the result
    return tf.cast(tf.linalg.matmul(x, y, transpose_b=True), tf.float32)


def u_centre(k: Any) -> Any:
    """U-centred Gram matrices [r, n, n]: zero diagonal, rows that sum to zero."""
    n = k.shape[-1]
    k = tf.linalg.set_diag(k, tf.zeros(k.shape[:-1], k.dtype))
    rows = tf.reduce_sum(k, axis=-1, keepdims=True) / (n - 2)
    total = tf.reduce_sum(rows, axis=-2, keepdims=True) / (n - 1)
    u = k - rows - tf.linalg.matrix_transpose(rows) + total
    return tf.linalg.set_diag(u, tf.zeros(k.shape[:-1], k.dtype))


def double_centre(k: Any) -> Any:
    """H K H [r, n, n], the centring of the biased estimator."""
    rows = tf.reduce_mean(k, axis=-1, keepdims=True)
    return k - rows - tf.linalg.matrix_transpose(rows) + tf.reduce_mean(rows, axis=-2, keepdims=True)


def fold(s: Any) -> Any:
    """Symmetric matrices [r, n, n] as vectors [r, ~n²/2] with the same inner products.

    With S = [[A, B], [Bᵀ, C]], the strict upper triangle of A and the strict lower one of C share one square.
    """
    n = s.shape[-1]
    half = n // 2 + n % 2
    s = tf.pad(s, [[0, 0], [0, 2 * half - n], [0, 2 * half - n]])
    diagonal = tf.linalg.diag_part(s) * 2.0**-0.5
    s = tf.linalg.set_diag(s, tf.zeros_like(diagonal))
    corners = tf.linalg.band_part(s[:, :half, :half], 0, -1) + tf.linalg.band_part(s[:, half:, half:], -1, 0)
    size = half * half
    parts = [tf.reshape(corners, [-1, size]), tf.reshape(s[:, :half, half:], [-1, size]), diagonal]
    return tf.concat(parts, axis=-1) * 2.0**0.5


def constant(norms: Any) -> Any:
    """Which layers have no CKA, [...], by their squared norms centred and not, [2, ...]."""
    return norms[0] <= CONSTANT**2 * norms[1]


def normaliser(n: int, biased: bool = False) -> float:
    """What an inner product of centred Gram matrices is divided by to be HSIC."""
    return float((n - 1) ** 2) if biased else float(n) * (n - 3)


def cka(xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """CKA [..., lx, ly] of HSIC [..., lx, ly] and self-HSIC [..., lx], [..., ly]; NaN where a layer has none."""
    scale = np.asarray(xx, np.float64)[..., :, None] * np.asarray(yy, np.float64)[..., None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, xy / np.sqrt(np.maximum(scale, 0)), np.nan)


def power_of_two(square: Any) -> Any:
    """A scale, exact in every float format, that brings features of this mean squared norm near one."""
    square = float(square)
    exact = 2.0 ** -round(math.log2(square) / 2) if 0 < square < math.inf else 1.0
    return tf.constant(exact, tf.float32)
