"""Position embeddings on another grid, as each family's own code resamples them.

`linear` vision_transformer's `interpolate_posembed` (corners on corners); `antialiased` timm's
`resample_abs_pos_embed` and DINOv2 with registers; `bicubic` DINOv2 and all others of transformers. Cubics are
PyTorch's: separable, so two small matrices.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

Size = tuple[int, int]
METHODS = ("linear", "antialiased", "bicubic")


def resampled(positions: np.ndarray, extra: int, target: Size, method: str = "linear") -> np.ndarray:
    """Position embeddings [1, extra + g * g, d] on a grid of `target` rows and columns; extra tokens keep theirs."""
    tokens, old = positions[:, :extra], positions[0, extra:]
    side = isqrt(len(old))
    if (side, side) == tuple(target):
        return positions
    old = old.reshape(side, side, -1)
    if method == "linear":
        from scipy.ndimage import zoom

        new = zoom(old, (target[0] / side, target[1] / side, 1), order=1)
    else:
        matrix = {"antialiased": antialiased, "bicubic": bicubic}[method]
        rows, cols = (matrix(side, length) for length in target)
        new = np.einsum("ih,jw,hwd->ijd", rows, cols, old.astype(np.float64)).astype(np.float32)
    return np.concatenate([tokens, new.reshape(1, target[0] * target[1], -1)], axis=1)


def antialiased(old: int, new: int) -> np.ndarray:
    """What each of `new` places [new, old] takes from `old` ones: a cubic (a = -0.5), widened when there are fewer."""
    scale = old / new
    widened = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    first = np.maximum((centers - 2 * widened + 0.5).astype(int), 0)
    last = np.minimum((centers + 2 * widened + 0.5).astype(int), old)
    places = np.arange(old)
    weights = _cubic((places[None] - centers[:, None] + 0.5) / widened, -0.5)
    weights = np.where((places >= first[:, None]) & (places < last[:, None]), weights, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def bicubic(old: int, new: int) -> np.ndarray:
    """What each of `new` places [new, old] takes from its four neighbours: a cubic (a = -0.75), borders repeated."""
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    below = np.floor(centers).astype(int)
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        place = below + step
        np.add.at(weights, (np.arange(new), place.clip(0, old - 1)), _cubic(centers - place, -0.75))
    return weights


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel."""
    x = np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
