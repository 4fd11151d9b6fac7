"""Who makes and who reads each tensor of a flat graph, and what of that is a residual addition.

An addition is residual if the calls between it and the latest tensor that both inputs come from form a closed block
(nothing inside is read outside), one input gets there through no kernel, or through a single one (a projection), and
the other through more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras

from tf_vitcnn.opening.applied import Applied
from tf_vitcnn.opening.graph import Node, Tensor

# Calls whose output has the numbers of their input, in another shape, order or type
SAME = (
    *("Reshape", "Transpose", "Permute", "ExpandDims", "Squeeze", "Identity", "Cast", "Flatten", "ConvertToTensor"),
    *("Dropout", "Moveaxis", "Swapaxes", "Roll", "Flip"),
)
PRODUCTS = ("Matmul", "Einsum", "Conv", "DepthwiseConv", "SeparableConv")


class Residual(NamedTuple):
    """A residual addition in the graph."""

    node: Node
    skip: Tensor
    branch: Tensor


def kind(node: Node | None) -> str:
    """The type of a call's operation; of what a call that holds weights applies."""
    if node is None:
        return ""
    operation = node.operation
    return type(operation.operation if isinstance(operation, Applied) else operation).__name__


def has_kernel(node: Node) -> bool:
    """Whether a call multiplies by a matrix of weights."""
    if isinstance(node.operation, Applied) and kind(node) not in PRODUCTS:
        inner = node.operation.operation
        return isinstance(inner, keras.layers.Layer) and any(len(w.shape) >= 2 for w in inner.weights)
    # LayerScale as an EinsumDense has a kernel of one axis
    return any(len(weight.shape) >= 2 for weight in getattr(node.operation, "weights", []))


def root(tensor: Tensor, maker: dict[int, Node]) -> Tensor:
    """The first tensor that has the same numbers."""
    node = maker.get(id(tensor))
    while node is not None and kind(node) in SAME and len(node.input_tensors) == 1:
        tensor = node.input_tensors[0]
        node = maker.get(id(tensor))
    return tensor


class Links:
    """The calls of a graph with their makers and readers; views that nothing but a tap reads are left out."""

    def __init__(self, nodes: Sequence[Node], outputs: Sequence[Tensor] = ()) -> None:
        self.nodes = _without_views(nodes, {id(t) for t in outputs})
        self.maker = {id(t): node for node in self.nodes for t in node.outputs}
        self.place = {id(node): place for place, node in enumerate(self.nodes)}
        self.readers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for t in node.input_tensors:
                self.readers.setdefault(id(t), []).append(node)

    def root(self, tensor: Tensor) -> Tensor:
        """The first tensor that has the same numbers."""
        return root(tensor, self.maker)

    def same(self, one: Tensor, two: Tensor) -> bool:
        """Whether two tensors have the same numbers."""
        return self.root(one) is self.root(two)

    def residual(self, node: Node) -> Residual | None:
        """The inputs of a residual addition; None if it is not recognised as one."""
        first, second = node.input_tensors
        fork = self.fork(first, second)
        if fork is None or first is second:
            return None
        kernels = [self.kernels(t, fork) for t in (first, second)]
        if kernels[0] == kernels[1] or min(kernels) > 1 or not self.closed(node, fork, entry=min(kernels) == 1):
            return None
        return Residual(node, *((first, second) if kernels[0] < kernels[1] else (second, first)))

    def multiplied(self, node: Node) -> bool:
        """Whether a kernel lies on the way to either input of an addition; else it is arithmetic."""
        fork = self.fork(*node.input_tensors)
        return fork is None or any(self.kernels(t, fork) for t in node.input_tensors)

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
        depth = {fork: 0}
        for node in self.inside(tensor, fork):
            below = max((depth.get(id(t), 0) for t in node.input_tensors), default=0)
            depth.update((id(t), below + has_kernel(node)) for t in node.outputs)
        return depth[id(tensor)]

    def inside(self, tensor: Tensor, fork: int) -> list[Node]:
        """The calls that lead from the fork to a tensor, and from elsewhere at the same time, in order."""
        found = {
            id(self.maker[key]): self.maker[key] for key in self.before(tensor) if self.made(key) > self.made(fork)
        }
        return sorted(found.values(), key=lambda node: self.place[id(node)])

    def closed(self, node: Node, fork: int, entry: bool) -> bool:
        """Whether nothing between fork and sum is read elsewhere; with `entry`, nor does it read from elsewhere."""
        inside = {id(n): n for t in node.input_tensors for n in self.inside(t, fork)} | {id(node): node}
        own = {id(t) for n in inside.values() for t in n.outputs if n is not node}
        if any(id(reader) not in inside for key in own for reader in self.readers.get(key, [])):
            return False
        return not entry or all(id(t) in own or id(t) == fork for n in inside.values() for t in n.input_tensors)


def adds_two(node: Node) -> bool:
    """Whether a call is the sum of two tensors of one shape (a constant or a broadcast is no skip)."""
    tensors = node.input_tensors
    # the layer, or the operation behind `a + b`
    return (
        type(node.operation).__name__ == "Add"
        and len(tensors) == 2
        and tuple(tensors[0].shape) == tuple(tensors[1].shape)
    )


def _without_views(nodes: Sequence[Node], outputs: set[int]) -> list[Node]:
    """The calls but those that only show a tensor in another shape, for a tap."""
    kept, read = [], set[int]()
    for node in reversed(nodes):
        own = {id(t) for t in node.outputs}
        view = kind(node) in SAME and not own & (read | outputs) and not isinstance(node.operation, keras.layers.Layer)
        if not view:
            kept.append(node)
            read |= {id(t) for t in node.input_tensors}
    return kept[::-1]
