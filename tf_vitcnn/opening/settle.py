"""A traced graph made a model's: for any number of images, its weights its own.

The code inside layers often wants a number of images (`ops.reshape(x, (ops.shape(x)[0], ...))`), so a model is traced
with one: with two images and again with three. What differs between the two graphs follows the number of images, and
is freed here: a reshape infers that axis, a token that was repeated for each image is kept once. Where something else
differs, the graph stays at one number of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_vitcnn.opening.applied import holding, is_held
from tf_vitcnn.opening.graph import Node, Tensor, calls, flat
from tf_vitcnn.opening.trace import Tracer, alias

IMAGES = (2, 3)  # how many a model is traced with
UNSEEN = ("name", "_inbound_nodes", "_outbound_nodes", "_auto_config", "_lock", "_remat_mode")


class FixedError(Exception):
    """Something follows the number of images that cannot be freed of it."""


@dataclass
class Trace:
    """What a model's calls were with some number of images."""

    inputs: Any
    outputs: Any
    tracer: Tracer
    nodes: list[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = calls(flat(self.inputs), in_order(self.outputs))

    @property
    def images(self) -> int:
        """How many."""
        return flat(self.inputs)[0].shape[0]


def in_order(outputs: Any) -> list[Tensor]:
    """Outputs in the order in which a dict declares them (Keras' own flattening sorts its keys)."""
    return [t for part in outputs.values() for t in flat(part)] if isinstance(outputs, dict) else flat(outputs)


@dataclass
class Settled:
    """The graph of a model, with what is known about its tensors by their id."""

    inputs: Any
    outputs: Any
    paths: dict[int, str] = field(default_factory=dict)
    per_image: dict[int, int] = field(default_factory=dict)  # rows for each image, where the first axis has several
    copied: int = 0  # bytes that are computed from weights alone
    notes: list[str] = field(default_factory=list)
    _held: list[Any] = field(default_factory=list)  # so that ids stay unique


def settle(trace: Trace, other: Trace | None) -> Settled:
    """The graph for any number of images, or for that of the trace where there is no other."""
    free = other is not None
    if other and [type(n.operation) for n in trace.nodes] != [type(n.operation) for n in other.nodes]:
        raise FixedError("its calls depend on the number of images")
    batch = () if free else (trace.images,)
    new = {
        id(t): keras.Input(
            t.shape[1:], dtype=t.dtype, name=f"images{i or ''}", **({"batch_size": batch[0]} if batch else {})
        )
        for i, t in enumerate(flat(trace.inputs))
    }
    settled = Settled(_mapped(trace.inputs, new), None, notes=list(trace.tracer.notes))
    twins: dict[int, Any] = {}
    for i, node in enumerate(trace.nodes):
        step = _Step(trace, settled, node, other.nodes[i] if other else None, other.images if other else 0, twins)
        results = step.run(new)
        settled._held += node.outputs
        for old, again, result in zip(node.outputs, step.again, results, strict=True):
            new[id(old)] = result
            result._sparse = False
            if path := trace.tracer.paths.get(id(old)):
                settled.paths.setdefault(id(result), path)
            rows = _times(old.shape[0], again.shape[0], step.images) if len(old.shape) else None
            if rows not in (None, 1):
                settled.per_image[id(result)] = rows
    settled.outputs = _mapped(trace.outputs, new)
    return settled


def _mapped(structure: Any, new: dict[int, Tensor]) -> Any:
    return keras.tree.map_structure(lambda t: new[id(t)] if isinstance(t, keras.KerasTensor) else t, structure)


def _times(first: int | None, second: int | None, images: tuple[int, int]) -> int | None:
    """What both numbers of images were multiplied by; None where they were not."""
    if first is None or second is None:  # what Keras 3.10's EinsumDense says of any number of images
        return 1
    times = first // images[0]
    return times if (first, second) == (times * images[0], times * images[1]) and times else None


@dataclass
class _Step:
    """One call of the traced graph, made again on the settled one."""

    trace: Trace
    settled: Settled
    node: Node
    second: Node | None
    second_images: int
    twins: dict[int, Any]

    @property
    def images(self) -> tuple[int, int]:
        """How many images the two traces were for."""
        return self.trace.images, self.second_images or self.trace.images

    @property
    def path(self) -> str:
        """Where the call is."""
        return self.trace.tracer.paths.get(id(self.node.outputs[0]), self.node.operation.name)

    @property
    def again(self) -> list[Tensor]:
        """The outputs of the same call in the other trace."""
        return self.second.outputs if self.second else self.node.outputs

    def run(self, new: dict[int, Tensor]) -> list[Tensor]:
        """The call's outputs."""
        args, kwargs = self.node.arguments.fill_in(new)
        operation = self.node.operation
        if self.second and type(operation).__name__ == "Reshape" and not isinstance(operation, keras.layers.Layer):
            again = type(operation)(self._shape())
            again.name = operation.name  # an argument since Keras 3.11
            return flat(again(*args))
        held = [value for value in keras.tree.flatten((args, kwargs)) if is_held(value)]
        scaled = self._scaled()
        self._same_numbers()
        if held or scaled:
            return flat(self._holding(operation, args, kwargs, scaled))
        return flat(self._twin(operation)(*args, **kwargs))

    def _twin(self, operation: Any) -> Any:
        # masks are arguments of the calls that read them: none hangs on a tensor
        unmasked = {"mask_zero": False} if getattr(operation, "mask_zero", False) else {}
        return self.twins.setdefault(id(operation), alias(operation, operation.name, **unmasked))

    def _shape(self) -> tuple[int, ...]:
        """A reshape's output with the axis inferred that follows the images."""
        one, two = self.node.outputs[0].shape, self.again[0].shape
        follows = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(follows) > 1:
            raise FixedError(f"{self.path} reshapes several axes by it")
        return tuple(-1 if axis in follows else size for axis, size in enumerate(one))

    def _scaled(self) -> dict[str, dict[str, int]]:
        """Attributes of the operation in which the number of images stands."""
        found: dict[str, dict[str, int]] = {}
        if self.second is None or isinstance(self.node.operation, keras.layers.Layer):
            return found
        for key, one in vars(self.node.operation).items():
            two = getattr(self.second.operation, key, None)
            if key in UNSEEN or _equal(one, two):
                continue
            many = isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two)
            pairs = list(zip(one, two or (), strict=True)) if many else []
            places = {str(i): _times(a, b, self.images) for i, (a, b) in enumerate(pairs) if a != b} or {"": None}
            if None in places.values():
                raise FixedError(f"{self.node.operation.name} depends on the number of images")
            found[key] = {place: times for place, times in places.items() if times}
        return found

    def _same_numbers(self) -> None:
        """Plain arguments may not follow the number of images."""
        if self.second is None:
            return
        pairs = zip(_plain(self.node), _plain(self.second), strict=True)
        if any(not _equal(one, two) for one, two in pairs):
            raise FixedError(f"{self.path} takes the number of images")

    def _holding(self, operation: Any, args: Any, kwargs: Any, scaled: Any) -> Any:
        """The outputs of an operation that holds something."""
        tiled, linked = self._tiled()
        policy = self.trace.tracer.policies.get(id(self.node)) or keras.DTypePolicy("float32")
        per_image = self._per_image() if tiled or scaled else 1
        if isinstance(operation, keras.layers.Layer):
            operation = self._twin(operation)
        layer, given = holding(
            operation, args, kwargs, operation.name, policy, tiled, linked, scaled=scaled, per_image=per_image
        )
        self.settled.copied += sum(int(np.asarray(copy.value).nbytes) for copy in layer.copies)
        return layer(given)

    def _per_image(self) -> int:
        """How many rows of the first tensor that the call reads are one image's."""
        one, two = (
            flat((n.arguments.args, n.arguments.kwargs))[0].shape[0] for n in (self.node, self.second or self.node)
        )
        times = _times(one, two, self.images)
        if times is None:
            raise FixedError(f"{self.node.operation.name} holds something for each image")
        return times

    def _tiled(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """By the number of what is held: the part that is there once for each image, and the weight that it is."""
        one = list(_held(self.node))
        two = list(_held(self.second)) if self.second else one
        if len(one) != len(two):
            raise FixedError(f"{self.node.operation.name} holds something else for each number of images")
        tiled: dict[int, Any] = {}
        linked: dict[int, Any] = {}
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            if isinstance(a, keras.Variable):
                continue
            first, second = np.asarray(a), np.asarray(b)
            if first.shape != second.shape:
                tiled[i] = first = self._once(first, second)
            elif first.dtype != object and not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
                raise FixedError(f"{self.node.operation.name} holds other numbers at each call")
            linked[i] = self._weight(first)
        return tiled, {i: weight for i, weight in linked.items() if weight is not None}

    def _once(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """What both hold again and again along their first axis."""
        rows = _times(len(first), len(second), self.images) if first.shape[1:] == second.shape[1:] else None
        if rows is None:
            raise FixedError(f"{self.node.operation.name} holds something for each image")
        part = first[:rows]
        repeated = [np.tile(part, (count, *[1] * (first.ndim - 1))) for count in self.images]
        if not all(np.array_equal(x, y) for x, y in zip(repeated, (first, second), strict=True)):
            raise FixedError(f"{self.node.operation.name} holds other numbers for each image")
        return part

    def _weight(self, value: np.ndarray) -> keras.Variable | None:
        """The one weight of the layer around the call that has these numbers, if there is one."""
        owner = self.trace.tracer.owners.get(id(self.node))
        if owner is None or value.size < 2:
            return None
        found = [
            v
            for v in owner.variables
            if np.prod(v.shape) == value.size
            and [n for n in v.shape if n != 1] == [n for n in value.shape if n != 1]
            and np.array_equal(
                np.asarray(ops.cast(v.value, keras.backend.standardize_dtype(value.dtype))).reshape(value.shape), value
            )
        ]
        return found[0] if len(found) == 1 else None


def _equal(one: Any, two: Any) -> bool:
    if is_held(one) or is_held(two):
        return np.array_equal(np.asarray(one), np.asarray(two))
    return one is two or bool(one == two)


def _held(node: Node) -> Iterator[Any]:
    return (x for x in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)) if is_held(x))


def _plain(node: Node) -> list[Any]:
    """The arguments of a call that are neither tensors nor held."""
    parts = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [None if isinstance(x, keras.KerasTensor) or is_held(x) else x for x in parts]
