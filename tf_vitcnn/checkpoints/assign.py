"""Strict assignment: every weight of the model from one array, every array in one weight, or an error that lists both.

The comparison needs names and shapes only, so a file that does not fit is refused before a model is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.layouts import grid, rows
from tf_vitcnn.checkpoints.resample import resampled
from tf_vitcnn.checkpoints.row import Row
from tf_vitcnn.checkpoints.vit_npz import POSITIONS
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import AnySpec, ViTSpec

if TYPE_CHECKING:
    import keras

LISTED = 12


def mismatches(found: Found, spec: AnySpec) -> str:
    """What of the file and what of the architecture does not fit the other; empty when all does."""
    size = found.image_size or (224, 224)
    expected = {row.key: row for row in rows(spec, size, found.classes)}
    missing = [found.spelled(key) for key in expected if key not in found.arrays]
    surplus = [array.name for key, array in found.arrays.items() if key not in expected]
    shared = [(found.arrays[key], row) for key, row in expected.items() if key in found.arrays]
    misshaped = [f"{a.name} has {a.shape}, expected {row.shape}" for a, row in shared if a.shape != row.shape]
    typed = [f"{a.name} holds {a.dtype}, expected floating point" for a, _ in shared if not a.numeric]
    parts = {"missing": missing, "surplus": surplus, "misshaped": misshaped, "mistyped": typed}
    return "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in parts.items() if names)


def _listed(names: Sequence[str]) -> str:
    more = f", ... and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def fill(model: keras.Model, found: Found, spec: AnySpec, image_size: tuple[int, int]) -> None:
    """Copies the checkpoint into the model, one array at a time."""
    arrays = _positioned(found, spec, image_size)
    weights = {path: weight for path, weight in weights_of(model)}
    expected = rows(spec, image_size, found.classes)
    assert weights.keys() == {row.target for row in expected}, set(weights) ^ {row.target for row in expected}
    # in the file's order, so that a stacked array is read once
    for row in sorted(expected, key=lambda row: arrays[row.key].name):
        weight = weights[row.target]
        # our variable may keep an axis of length one, to be broadcast
        weight.assign(_values(found.source, arrays[row.key], row).reshape(weight.shape))


def _values(source: str, array: Array, row: Row) -> np.ndarray:
    try:
        values = array.values()
    except BadInput as error:
        raise BadInput(f"{source}: {error}") from error
    assert values.shape == row.shape, (row, values.shape)
    return values


def _positioned(found: Found, spec: AnySpec, image_size: tuple[int, int]) -> dict[str, Array]:
    """The arrays, position embeddings interpolated from the file's grid to the subject's."""
    arrays = dict(found.arrays)
    if not isinstance(spec, ViTSpec) or not spec.added or found.image_size == image_size:
        return arrays
    stored, target, extra = arrays[POSITIONS], grid(spec, image_size), spec.placed
    shape = (1, extra + target[0] * target[1], spec.width)

    def read() -> np.ndarray:
        return resampled(stored.values(), extra, target, found.resample)

    arrays[POSITIONS] = Array(stored.name, shape, np.dtype(np.float32), read)
    return arrays


def weights_of(model: keras.Model) -> Iterable[tuple[str, Any]]:
    """(`layer/weight`, variable) of a model of ours or any other, in the order of its layers."""
    for layer in model.layers:
        for weight in layer.weights:
            path = weight.path.split("/")
            tail = path[path.index(layer.name) + 1 :] if layer.name in path else path[-1:]
            yield f"{layer.name}/{'/'.join(tail)}", weight


def fingerprint(model: keras.Model, source: str) -> str:
    """SHA-256 of all weights, the same whatever file they came from; NaN and infinity are refused."""
    digest = hashlib.sha256()
    for path, weight in sorted(weights_of(model), key=lambda pair: pair[0]):
        values = np.ascontiguousarray(weight.numpy())  # one copy at a time
        if values.dtype.kind == "f" and values.size and not np.isfinite([values.min(), values.max()]).all():
            raise BadInput(f"{source}: {path} holds NaN or infinity; expected finite weights")
        digest.update(f"{path} {values.shape} {values.dtype}\n".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
