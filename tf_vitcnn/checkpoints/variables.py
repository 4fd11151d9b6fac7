"""A variable as a SavedModel keeps it: where it is, what it is called, its values."""

from __future__ import annotations

from typing import NamedTuple

from tf_vitcnn.checkpoints.arrays import Array


class Variable(NamedTuple):
    """One variable of a SavedModel."""

    path: str  # of objects, from the root: transformer_blocks/0/...
    name: str  # given when it was made, without `:0`; need not be unique
    array: Array
