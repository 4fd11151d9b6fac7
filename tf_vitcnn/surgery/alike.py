"""What computes the same but for its weights: one trace and one compiled program serve all blocks that are alike.

Blocks of a network differ in names and weights alone. A likeness says what a computation is made of: types,
attributes, wiring, shapes, closures; a weight is its place among the weights. Two that are equal are one function of
their weights. What is not understood stands for itself, and so is like nothing else.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras
import numpy as np

from tf_vitcnn.opening.graph import Node

SMALL = 2**16  # bytes of an array that are compared
# what every layer carries, and yet changes what it computes
_MEANT = frozenset({"_dtype_policy", "autocast", "_convert_input_args"})
# of no meaning once there are weights, or in inference
_DONE = (keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint)
_DROPOUT = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.GaussianNoise)
_PLAIN = (str, bytes, int, float, complex, type(None), type(Ellipsis))


@dataclass
class Likeness:
    """Descriptions of things that are computed together, and the weights they met, in order."""

    weights: list[Any] = field(default_factory=list)
    _met: dict[int, int] = field(default_factory=dict)  # layers and weights by identity: their place

    def of(self, value: Any) -> Hashable:
        """What a value is, as far as computing with it goes."""
        if isinstance(value, keras.Variable):
            return self._weight(value)
        if isinstance(value, _DONE):
            return "done"
        if isinstance(value, keras.DTypePolicy):
            return "policy", value.name, value.compute_dtype, value.variable_dtype
        if isinstance(value, functools.partial):
            return "partial", self.of(value.func), self.of(value.args), self.of(value.keywords)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, keras.Operation) and not isinstance(value, keras.Function):
            return self._operation(value)
        return self._data(value)

    def _data(self, value: Any) -> Hashable:
        if isinstance(value, _PLAIN):
            return type(value), value
        if isinstance(value, np.ndarray | np.generic) and value.nbytes <= SMALL and not value.dtype.hasobject:
            return "array", value.shape, value.dtype.str, value.tobytes()
        if isinstance(value, slice):
            return "slice", self.of((value.start, value.stop, value.step))
        if isinstance(value, list | tuple):
            return "list", *map(self.of, value)
        if isinstance(value, Mapping):
            return "dict", *((self.of(key), self.of(item)) for key, item in value.items())
        return "itself", id(value)

    def of_call(self, node: Node, place: dict[int, int]) -> Hashable:
        """One call: its operation, and its arguments, tensors by their places, to which its outputs are added."""

        def argument(value: Any) -> Any:
            return ("tensor", place[id(value)]) if isinstance(value, keras.KerasTensor) else value

        given = keras.tree.map_structure(argument, (node.arguments.args, node.arguments.kwargs))
        for tensor in node.outputs:
            place[id(tensor)] = len(place)
        return self.of(node.operation), self.of(given)

    def _weight(self, weight: Any) -> Hashable:
        if id(weight) not in self._met:
            self._met[id(weight)] = len(self._met)
            self.weights.append(weight)
        return "weight", self._met[id(weight)], tuple(weight.shape), weight.dtype

    def _function(self, function: Any) -> Hashable:
        held = [cell.cell_contents for cell in function.__closure__ or ()]
        return "function", id(function.__code__), self.of(held), self.of(function.__defaults__)

    def _operation(self, operation: Any) -> Hashable:
        if isinstance(operation, _DROPOUT):
            return "dropout"  # nothing at inference, whatever its seed
        if id(operation) in self._met:
            return "met", self._met[id(operation)]
        self._met[id(operation)] = len(self._met)
        own = {key: value for key, value in vars(operation).items() if key in _MEANT or not _bookkeeping(key)}
        described = type(operation), *((key, self.of(own[key])) for key in sorted(own))
        rest = [weight for weight in getattr(operation, "variables", ()) if id(weight) not in self._met]
        return *described, self.of(rest)


@cache
def _of_every_layer() -> frozenset[str]:
    layer = keras.layers.Identity()
    layer(keras.Input((1,)))
    return frozenset(vars(layer))


def _bookkeeping(key: str) -> bool:
    return key in _of_every_layer() or key.startswith("_self_")
