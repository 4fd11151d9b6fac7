"""A model cut into segments: `segment(carry) -> (taps, carry)`, together one forward pass.

A cut's carry is exactly the tensors that later operations read. Where to cut is a shortest-path problem over the
calls in order: first the least peak (taps and carries of one segment, per image) that any cutting reaches; then,
among cuttings whose peak stays under the budget, the one whose carries are smallest in sum, or a somewhat finer one
that has fewer kinds of segments. Only the calls that the
chosen taps need are run. Masks that Keras hangs on tensors (`Masking`, `Embedding`) do not cross a cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np

from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.opening.graph import Node, Tensor, call, calls, flat, tensor_names
from tf_vitcnn.surgery.alike import Likeness

# Without a budget: a transformer block's taps hold 19 token maps where its widest single step holds 9.
SLACK = 2.5
FINER = (1.0, 0.9, 0.8, 0.7, 0.6)  # shares of the limit at which cuttings are tried


@dataclass(frozen=True, eq=False)
class Segment:
    """Some consecutive calls of a model, called with a carry: the images at first, else what the last one gave."""

    taps: tuple[str, ...]  # the names it files, in depth order
    carry_shapes: dict[str, tuple[int | None, ...]]  # what it hands on, by the tensor's name
    bytes_per_image: int  # of its taps, its carry and the one it was given, each tensor once
    carries: Sequence[int]  # bytes per image of what it is given and of what it hands on
    operations: tuple[str, ...]  # the names of what it runs
    nodes: Sequence[Node] = field(repr=False)
    reads: Sequence[Tensor] = field(repr=False)
    files: Mapping[str, Tensor] = field(repr=False)
    hands_on: Sequence[Tensor] = field(repr=False)

    def __call__(self, carry: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """The taps of one micro-batch and the carry for the next segment."""
        given = keras.tree.flatten(carry)
        if len(given) != len(self.reads):
            raise BadInput(f"segment of {self.operations[:1]} expects {len(self.reads)} tensors, got {len(given)}")
        values = {
            id(t): keras.ops.convert_to_tensor(value, dtype=t.dtype) for t, value in zip(self.reads, given, strict=True)
        }
        for node in self.nodes:
            call(node, values)
        filed = {name: values[id(t)] for name, t in self.files.items()}
        return filed, tuple(values[id(t)] for t in self.hands_on)

    @cached_property
    def likeness(self) -> tuple[Hashable, list[Any]]:
        """What it computes, names and weights' values apart, and its Keras variables in the order of their use."""
        met, place = Likeness(), {id(t): i for i, t in enumerate(self.reads)}
        calls = tuple(met.of_call(node, place) for node in self.nodes)
        reads = tuple((tuple(t.shape), t.dtype) for t in self.reads)
        ends = tuple(place[id(t)] for t in (*self.files.values(), *self.hands_on))
        return (reads, calls, len(self.files), ends), met.weights


def segments(model: keras.Model, taps: Sequence[str], budget: float | None = None) -> list[Segment]:
    """The chain of segments that computes `taps` of a model whose output is the dict of its taps.

    `budget` bounds a segment's `bytes_per_image` where that is possible; the least possible peak where it is not.
    """
    outputs = _tap_tensors(model, taps)
    inputs = flat(model.inputs)
    nodes = calls(inputs, list(outputs.values()))
    plan = _Plan(inputs, nodes, outputs)
    choices = [[plan.segment(*ends) for ends in itertools.pairwise(cuts)] for cuts in plan.cuttings(budget)]
    # finer than need be where more of them are alike then: each kind is traced and compiled for itself
    return min(choices, key=lambda pieces: len({piece.likeness[0] for piece in pieces}))


def live(model: keras.Model, taps: Sequence[str]) -> int:
    """Bytes per image that are held where most are, while `taps` are computed and each is read as soon as it is there.

    A call holds what it reads, what it gives, and what later calls read.
    """
    outputs = _tap_tensors(model, taps)
    inputs = flat(model.inputs)
    nodes = calls(inputs, list(outputs.values()))
    plan = _Plan(inputs, nodes, outputs)
    held = ({*plan.live(place), *map(id, node.outputs)} for place, node in enumerate(nodes))
    return max(sum(plan.size.get(key, 0) for key in each) for each in held)


def _tap_tensors(model: keras.Model, taps: Sequence[str]) -> dict[str, Tensor]:
    if not isinstance(model.output, dict):
        raise BadInput(f"the output of {model.name!r} is not a dict of taps: use opening.expose(model) first")
    for name in taps:
        if name not in model.output:
            raise unknown("tap", name, model.output)
    if not taps:
        raise BadInput("no taps chosen: name at least one")
    chosen = set(taps)
    return {name: t for name, t in model.output.items() if name in chosen}  # depth order


def nbytes(tensor: Tensor, shape: tuple[int | None, ...] | None = None) -> int:
    """Bytes of a tensor per image; `shape` is its shape for one image, where its axes after the first do not say."""
    shape = tensor.shape[1:] if shape is None else shape
    if None in shape:
        raise BadInput(
            f"{tensor._keras_history.operation.name!r} has no fixed size {tuple(tensor.shape)}: "
            "load the model with an image size"
        )
    return (
        math.prod(shape) * np.dtype(keras.backend.standardize_dtype(tensor.dtype).replace("bfloat", "float")).itemsize
    )


def for_one_image(inputs: Sequence[Tensor], nodes: Sequence[Node]) -> dict[int, tuple[int | None, ...]]:
    """The shapes of all tensors, by id, for one image; none where every first axis is the images'.

    A reshape may fold windows or heads into the images: then the other axes alone do not tell what one image holds.
    """
    images = inputs[0].shape[0]
    if images is not None:  # the model's own code wants so many
        tensors = [*inputs, *(t for node in nodes for t in node.outputs)]
        return {id(t): (max(1, t.shape[0] // images), *t.shape[1:]) for t in tensors if t.shape}
    if not any(type(node.operation).__name__ == "Reshape" and hasattr(node.operation, "newshape") for node in nodes):
        return {}
    values = {id(t): keras.KerasTensor((1, *t.shape[1:]), t.dtype) for t in inputs}
    for node in nodes:
        args, kwargs = node.arguments.fill_in(values)
        results = keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
        rows = next(iter(t.shape[0] for t in keras.tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)), 1)
        for t, result in zip(node.outputs, results, strict=True):
            left_open = result.shape and result.shape[0] is None  # by Keras 3.10's EinsumDense
            values[id(t)] = keras.KerasTensor((rows, *result.shape[1:]), result.dtype) if left_open else result
    return {key: tuple(value.shape) for key, value in values.items()}


class _Plan:
    """Who is produced and last read when, and what any stretch of calls would hold. Position p lies before call p."""

    def __init__(self, inputs: Sequence[Tensor], nodes: Sequence[Node], outputs: Mapping[str, Tensor]) -> None:
        self.inputs, self.nodes, self.outputs = inputs, nodes, outputs
        self.tensors = {id(t): t for t in inputs}
        self.made = {id(t): 0 for t in inputs}  # position after which it exists
        self.read: dict[int, int] = {}  # position up to which it must be kept
        for place, node in enumerate(nodes):
            self.read.update((id(t), place) for t in node.input_tensors)
            self.tensors.update((id(t), t) for t in node.outputs)
            self.made.update((id(t), place + 1) for t in node.outputs)
        self.tapped = {id(t) for t in outputs.values()}
        self.names = tensor_names(nodes, inputs)
        shapes = for_one_image(inputs, nodes)
        self.size = {
            key: nbytes(t, shapes.get(key)) for key, t in self.tensors.items() if key in self.read or key in self.tapped
        }

    def live(self, place: int) -> list[int]:
        """The tensors that calls from `place` on read and earlier ones made, oldest first; the images at the start."""
        if place == 0:
            return [id(t) for t in self.inputs]
        return [key for key, made in self.made.items() if made <= place <= self.read.get(key, -1)]

    def peaks(self) -> np.ndarray:
        """Bytes per image of a segment from position j to i > j, [i, j]."""
        count = len(self.nodes)
        filed = np.zeros(count + 1)
        for key in self.tapped:
            filed[self.made[key]] += self.size[key]
        filed = np.cumsum(filed)
        carried = np.zeros(count + 1)
        fresh = np.zeros((count + 1, count + 1))  # [i, j] of what i carries on: made after j and no tap
        for place in range(count + 1):
            born = np.zeros(count + 2)
            for key in self.live(place):
                carried[place] += self.size[key]
                born[self.made[key]] += 0 if key in self.tapped else self.size[key]
            fresh[place] = np.cumsum(born[::-1])[::-1][1:]
        return fresh + filed[:, None] - filed[None, :] + carried[None, :]

    def cuttings(self, budget: float | None) -> list[tuple[int, ...]]:
        """Those under the limit, coarsest first, and some finer ones."""
        peaks, count = self.peaks(), len(self.nodes)
        least = np.zeros(count + 1)
        for end in range(1, count + 1):
            least[end] = np.maximum(least[:end], peaks[end, :end]).min()
        limit = max(least[count], SLACK * least[count] if budget is None else budget)
        carried = np.array([sum(self.size[key] for key in self.live(place)) for place in range(count + 1)])
        limits = [max(least[count], share * limit) for share in FINER]
        return list(dict.fromkeys(self.cuts(peaks, carried, limit) for limit in limits))

    def cuts(self, peaks: np.ndarray, carried: np.ndarray, limit: float) -> tuple[int, ...]:
        """Positions from 0 to the last: smallest carries in sum among the cuttings that keep under the limit."""
        count = len(self.nodes)
        cost, back = np.zeros(count + 1), np.zeros(count + 1, int)
        for end in range(1, count + 1):
            choices = np.where(peaks[end, :end] <= limit, cost[:end], np.inf)
            back[end] = int(choices.argmin())
            cost[end] = choices[back[end]] + carried[end]
        cuts = [count]
        while cuts[-1] > 0:
            cuts.append(int(back[cuts[-1]]))
        return tuple(cuts[::-1])

    def segment(self, first: int, last: int) -> Segment:
        """The calls from position `first` to `last`."""
        reads, hands_on = ([self.tensors[key] for key in self.live(place)] for place in (first, last))
        files = {
            name: t
            for name, t in self.outputs.items()
            if first < self.made[id(t)] <= last or self.made[id(t)] == first == 0
        }
        held = {id(t) for t in (*reads, *hands_on, *files.values())}
        return Segment(
            taps=tuple(files),
            carry_shapes={self.names[id(t)]: tuple(t.shape) for t in hands_on},
            bytes_per_image=sum(self.size.get(key, 0) for key in held),
            carries=[sum(self.size.get(id(t), 0) for t in each) for each in (reads, hands_on)],
            operations=tuple(node.operation.name for node in self.nodes[first:last]),
            nodes=self.nodes[first:last],
            reads=reads,
            files=files,
            hands_on=hands_on,
        )
