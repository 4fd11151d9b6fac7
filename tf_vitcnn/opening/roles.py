"""What a tap is for: residual additions with their two inputs, the grid or tokens behind a shape.

The graph says it (`links.py`), in our own models as in others. What is not recognised is said in the notes, not
guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from tf_vitcnn import taps
from tf_vitcnn.errors import unknown
from tf_vitcnn.opening.attention import PARTS
from tf_vitcnn.opening.expose import named_tensors
from tf_vitcnn.opening.graph import Tensor, calls, flat, node_of, tensor_names
from tf_vitcnn.opening.links import SAME, Links, Residual, adds_two, kind, root

UNPLACED = ("tokenmix/pre", "tokenmix/act")  # channels by hidden units: no token, no place
PER_PAIR = ("attn/scores", "attn/probs")  # [n, q, k]
PER_TOKEN = tuple(f"attn/{part}" for part in PARTS if f"attn/{part}" not in PER_PAIR)  # [t, n, e]
# Calls that give tensors of heads, tokens and channels as readily as maps
NO_MAPS = (
    *(*SAME, "Matmul", "Einsum", "EinsumDense", "Softmax", "GetItem", "Split", "Unstack", "Stack"),
    *("Multiply", "Divide", "TrueDivide", "Add", "Subtract", "Where", "Repeat", "Tile", "Negative"),
)
MOST_EXTRA = 16  # more tokens than grid places than this: the grid is not the tokens' own


class Addition(NamedTuple):
    """A residual addition by the names of its taps."""

    sum: str
    skip: str
    branch: str


class Layout(NamedTuple):
    """Where a tap's vectors lie: extra tokens first, then the grid row by row."""

    rows: int
    cols: int
    extra: tuple[str, ...] = ()


def additions(model: keras.Model) -> tuple[list[Addition], list[str]]:
    """The residual additions in depth order, and notes on what looks like one but could not be told."""
    named = named_tensors(model)
    tensors = list(named.values())
    inputs = inputs_of(tensors)
    found, notes, names = residuals(inputs, tensors, {id(t): name for name, t in named.items()})
    maker = {id(t): node for node in calls(inputs, tensors) for t in node.outputs}
    by_root = {id(root(t, maker)): name for name, t in reversed(named.items())}
    told = []
    for f in found:
        three = (f.node.outputs[0], f.skip, f.branch)
        triple = [
            names[id(t)] if names[id(t)] in named else by_root.get(id(root(t, maker)), names[id(t)]) for t in three
        ]
        if missing := [name for name in triple if name not in named]:
            notes.append(f"the addition {triple[0]} is left out: {missing[0]} is no tap of {model.name}")
        else:
            told.append(Addition(*triple))
    return told, notes


def inputs_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The inputs that tensors come from."""
    seen, found, stack = set[int](), list[Tensor](), list(tensors)
    while stack:
        t = stack.pop()
        if id(t) not in seen:
            seen.add(id(t))
            node = node_of(t)
            found += node.outputs if node.is_input else []
            stack += node.input_tensors
    return list({id(t): t for t in found}.values())


def residuals(
    inputs: Any, outputs: Sequence[Tensor], named: Mapping[int, str]
) -> tuple[list[Residual], list[str], dict[int, str]]:
    """`additions` as tensors of a flat graph, with the names of all its tensors by their id (`named` come first)."""
    nodes = calls(flat(inputs), outputs)
    names = {key: _spelled(name) for key, name in tensor_names(nodes, flat(inputs)).items()} | dict(named)
    links, found, notes = Links(nodes), list[Residual](), list[str]()
    for node in links.nodes:
        name = names[id(node.outputs[0])]
        declared = taps.parse(name)
        if declared and declared.module == "resid" and isinstance(node.operation, keras.layers.Identity):
            notes.append(f"{name} has no skip: it was taken out")
        if not adds_two(node):
            continue
        if pair := links.residual(node):
            found.append(pair)
        elif links.multiplied(node):
            first, second = (names[id(t)] for t in node.input_tensors)
            notes.append(f"{name} adds {first} and {second}: neither is recognised as a skip connection")
    return found, notes, names


def _spelled(operation: str) -> str:
    return taps.tap_name(operation) if taps.parse(taps.tap_name(operation)) else operation


def layout(subject: Any, tap: str) -> Layout | None:
    """The places of a tap's vectors; None where it has none, or where the grid is unknown.

    Extra tokens have our models' own names; in others cls, dist (two of them) or cls, reg0, reg1, ... (registers).
    """
    model = getattr(subject, "model", subject)
    if tap not in model.output:
        raise unknown("tap", tap, model.output)
    tensor = model.output[tap]
    shape = tuple(tensor.shape[1:])
    if tap.endswith(UNPLACED) or len(shape) not in (2, 3) or None in shape:
        return None
    if len(shape) == 3 and not tap.endswith(PER_TOKEN + PER_PAIR):
        return Layout(shape[0], shape[1])
    tokens = shape[1] if tap.endswith(PER_PAIR) else shape[0]
    for rows, cols in _grids(model, tensor):
        if 0 <= tokens - rows * cols <= MOST_EXTRA:
            return Layout(rows, cols, _extra(model, tokens - rows * cols))
    return None


def _extra(model: keras.Model, count: int) -> tuple[str, ...]:
    for layer in model.layers:  # our own tokens know their names
        own = getattr(layer, "extra", None) if layer.name == "stem.tokens" else None
        if own is not None and len(own) == count:
            return tuple(own)
    if count <= 2:
        return ("cls", "dist")[:count]
    return ("cls", *(f"reg{i}" for i in range(count - 1)))


def _grids(model: keras.Model, tensor: Tensor) -> Iterator[tuple[int, int]]:
    """The feature maps [h, w, c] that a tensor comes from, the latest first; attention's tensors left out."""
    inputs = flat(model.inputs)
    named = {id(t): name for name, t in model.output.items()}
    for node in reversed(calls(inputs, [tensor])):
        for t in node.outputs:
            shape = tuple(t.shape[1:])
            name = named.get(id(t), taps.tap_name(node.operation.name))
            spatial = kind(node) not in NO_MAPS and not name.endswith(PER_TOKEN + PER_PAIR)
            if len(shape) == 3 and None not in shape and spatial:
                yield shape[0], shape[1]
            if len(shape) == 5 and (shape[0] * shape[1], shape[2] * shape[3]) == tuple(inputs[0].shape[1:3]):
                yield shape[0], shape[2]  # images cut into patches by a reshape
