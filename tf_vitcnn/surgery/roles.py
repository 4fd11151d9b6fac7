"""What a tap is for: residual additions with their two inputs, the grid or tokens behind a shape, a ResNet's stage.

In our own models names say it. In foreign ones the graph does: an addition is residual if the calls between it and
the latest tensor that both inputs come from form a closed block (nothing inside is read outside), one input gets
there through no kernel, or through a single one (a projection), and the other through more. What is not
recognised so is said in the notes, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from tf_vitcnn import taps
from tf_vitcnn.errors import unknown
from tf_vitcnn.surgery.expose import named_tensors
from tf_vitcnn.surgery.graph import Node, Tensor, calls, flat, node_of, tensor_names
from tf_vitcnn.surgery.rewire import tap_of

BRANCHES = ("attn/out", "mlp/out", "ls1/out", "ls2/out", "tokenmix/out", "chanmix/out", "branch/out")
UNPLACED = ("tokenmix/pre", "tokenmix/act")  # channels by hidden units: no token, no place
PER_TOKEN = (  # [t, n, e]
    *("attn/q", "attn/k", "attn/v", "attn/q_norm", "attn/k_norm", "attn/q_rot", "attn/k_rot", "attn/mixed"),
)
PER_PAIR = ("attn/scores", "attn/probs")  # [n, q, k]
SAME = (keras.layers.Reshape, keras.layers.Identity, keras.layers.Dropout)  # at inference
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


class Residual(NamedTuple):
    """A residual addition in the graph."""

    node: Node
    skip: Tensor
    branch: Tensor


def additions(model: keras.Model) -> tuple[list[Addition], list[str]]:
    """The residual additions in depth order, and notes on what looks like one but could not be told."""
    named = named_tensors(model)
    found, notes, names = residuals(flat(model.inputs), list(named.values()), named)
    known = model.output if isinstance(model.output, dict) else set(names.values())
    told = []
    for f in found:
        triple = [_tap(t, names, known) for t in (f.node.outputs[0], f.skip, f.branch)]
        if missing := [name for name in triple if name not in known]:
            notes.append(f"the addition {triple[0]} is left out: {missing[0]} is no tap of {model.name}")
        else:
            told.append(Addition(*triple))
    return told, notes


def _tap(tensor: Tensor, names: dict[int, str], known: Collection[str]) -> str:
    """The tap of a tensor, or the one it holds the same numbers as, in another shape."""
    node = node_of(tensor)
    if names[id(tensor)] not in known and isinstance(node.operation, SAME) and len(node.input_tensors) == 1:
        return _tap(node.input_tensors[0], names, known)
    return names[id(tensor)]


def residuals(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], named: Mapping[str, Tensor]
) -> tuple[list[Residual], list[str], dict[int, str]]:
    """`additions` as tensors of a flat graph, with the names of all its tensors by their id (`named` come first)."""
    nodes = calls(inputs, outputs)
    names = {key: tap_of(name) for key, name in tensor_names(nodes, inputs).items()}
    names |= {id(t): name for name, t in reversed(list(named.items()))}
    graph, found, notes = _Graph(nodes), list[Residual](), list[str]()
    for node in nodes:
        name = names[id(node.outputs[0])]
        declared = taps.parse(name)
        if declared and declared.module == "resid" and isinstance(node.operation, keras.layers.Identity):
            notes.append(f"{name} has no skip: it was taken out")
        if not _adds_two(node):
            continue
        pair = _by_name(node, names) if declared else graph.skip_and_branch(node)
        if pair:
            found.append(Residual(node, *pair))
        else:
            first, second = (names[id(t)] for t in node.input_tensors)
            notes.append(f"{name} adds {first} and {second}: neither is recognised as a skip connection")
    return found, notes, names


def layout(subject: Any, tap: str) -> Layout | None:
    """The places of a tap's vectors; None where it has none, or where the grid is unknown.

    Extra tokens are named cls, dist (two of them) or cls, reg0, reg1, ... (registers).
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
            return Layout(rows, cols, _extra(tokens - rows * cols))
    return None


def stage(subject: Any, tap: str) -> int | None:
    """The stage (from 1) of a tap: as named in our ResNets, in foreign networks by its stride (4 is stage 1)."""
    place = layout(subject, tap)
    if (
        taps.parse(tap)
        or place is None
        or place.extra
        or len(getattr(subject, "model", subject).output[tap].shape) != 4
    ):
        return taps.stage_of(tap)
    height = flat(getattr(subject, "model", subject).inputs)[0].shape[1]
    level = math.log2(height / place.rows) - 1 if height else 0.0
    return round(level) if level >= 0.5 and abs(level - round(level)) < 0.25 else None


def _extra(count: int) -> tuple[str, ...]:
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
            if len(shape) == 3 and None not in shape and not name.endswith(PER_TOKEN + PER_PAIR):
                yield shape[0], shape[1]


def _adds_two(node: Node) -> bool:
    """Whether a call is the sum of two tensors of one shape (a constant or a broadcast is no skip)."""
    tensors = node.input_tensors
    is_sum = type(node.operation).__name__ == "Add"  # the layer, or the operation behind `a + b`
    return is_sum and len(tensors) == 2 and tuple(tensors[0].shape) == tuple(tensors[1].shape)


def _by_name(node: Node, names: dict[int, str]) -> tuple[Tensor, Tensor] | None:
    """Skip and branch of an addition of ours: the branch is the one that is called so."""
    first, second = node.input_tensors
    if names[id(first)].endswith(BRANCHES) and not names[id(second)].endswith(BRANCHES):
        return second, first
    return (first, second) if names[id(second)].endswith(BRANCHES) else None


class _Graph:
    """Who makes and who reads each tensor."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.maker = {id(t): node for node in nodes for t in node.outputs}
        self.place = {id(node): place for place, node in enumerate(nodes)}
        self.readers: dict[int, list[Node]] = {}
        for node in nodes:
            for t in node.input_tensors:
                self.readers.setdefault(id(t), []).append(node)

    def skip_and_branch(self, node: Node) -> tuple[Tensor, Tensor] | None:
        """The inputs of a residual addition in this order; None if it is not recognised as one."""
        first, second = node.input_tensors
        fork = self.fork(first, second)
        if fork is None or first is second:
            return None
        kernels = [self.kernels(t, fork) for t in (first, second)]
        if kernels[0] == kernels[1] or min(kernels) > 1 or not self.closed(node, fork, entry=min(kernels) == 1):
            return None
        return (first, second) if kernels[0] < kernels[1] else (second, first)

    def before(self, tensor: Tensor) -> set[int]:
        """The ids of a tensor and of all it comes from."""
        seen, stack = set[int](), [tensor]
        while stack:
            t = stack.pop()
            if id(t) not in seen:
                seen.add(id(t))
                stack += self.maker[id(t)].input_tensors if id(t) in self.maker else []
        return seen

    def fork(self, first: Tensor, second: Tensor) -> int | None:
        """The id of the latest tensor that both come from."""
        common = self.before(first) & self.before(second)
        return max(common, key=self.made) if common else None

    def made(self, key: int) -> int:
        """The position of the call that makes a tensor, -1 for an input."""
        return self.place[id(self.maker[key])] if key in self.maker else -1

    def kernels(self, tensor: Tensor, fork: int) -> int:
        """The most operations with a kernel on a path from the fork to a tensor."""
        if id(tensor) == fork or self.made(id(tensor)) <= self.made(fork):
            return 0
        inside = [self.maker[id(tensor)], *self.inside(tensor, fork)]
        depth = {fork: 0}
        for node in sorted(inside, key=lambda n: self.place[id(n)]):
            below = max(depth.get(id(t), 0) for t in node.input_tensors)
            depth.update((id(t), below + _has_kernel(node)) for t in node.outputs)
        return depth[id(tensor)]

    def inside(self, tensor: Tensor, fork: int) -> list[Node]:
        """The calls that lead from the fork to a tensor, and from elsewhere at the same time."""
        keys = (key for key in self.before(tensor) if self.made(key) > self.made(fork))
        return list({id(self.maker[key]): self.maker[key] for key in keys}.values())

    def closed(self, node: Node, fork: int, entry: bool) -> bool:
        """Whether nothing between fork and sum is read elsewhere; with `entry`, nor does it read from elsewhere."""
        inside = {id(n): n for t in node.input_tensors for n in self.inside(t, fork)} | {id(node): node}
        own = {id(t) for n in inside.values() for t in n.outputs if n is not node}
        if any(id(reader) not in inside for key in own for reader in self.readers.get(key, [])):
            return False
        return not entry or all(id(t) in own or id(t) == fork for n in inside.values() for t in n.input_tensors)


def _has_kernel(node: Node) -> bool:
    return any(len(weight.shape) >= 2 for weight in getattr(node.operation, "weights", []))
