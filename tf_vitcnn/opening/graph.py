"""The graph of a Keras functional model: its calls in the order of the forward pass, and a way to run some of them.

A node is one call of an operation (a layer, or bare as `a + b`); a layer called twice has two. The order is depth
first from the outputs as they are declared, so that a branch is finished before the next one begins: few tensors
are live at a time. (Keras orders by distance from the output, which runs parallel branches in lockstep.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

Node = Any  # keras.src.ops.node.Node, not public
Tensor = Any  # keras.KerasTensor where symbolic, else a tensor of TensorFlow


def flat(structure: Any) -> list[Tensor]:
    """The symbolic tensors of a nested structure, in Keras' order."""
    return [t for t in keras.tree.flatten(structure) if isinstance(t, keras.KerasTensor)]


def node_of(tensor: Tensor) -> Node:
    """The call that produced a symbolic tensor."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def calls(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Node]:
    """The calls that lead from `inputs` to `outputs`, each after those it reads; inputs' own calls left out."""
    given = {id(t) for t in inputs}
    order: list[Node] = []
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node_of(t), False) for t in reversed(outputs) if id(t) not in given]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready or node.is_input:
            done.add(id(node))
            order += [] if node.is_input else [node]
            continue
        stack.append((node, True))
        stack += [(node_of(t), False) for t in reversed(node.input_tensors) if id(t) not in given]
    return order


def call(node: Node, values: dict[int, Tensor]) -> None:
    """Repeats one call on other values (by the id of the symbolic tensor), in inference mode; files its outputs."""
    args, kwargs = node.arguments.fill_in(values)
    if getattr(node.operation, "_call_has_training_arg", False):
        kwargs["training"] = False
    results = keras.tree.flatten(node.operation(*args, **kwargs))
    values.update((id(t), value) for t, value in zip(node.outputs, results, strict=True))


def rewired(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], change: Callable[[Node, list[Tensor]], Tensor | None]
) -> list[Tensor]:
    """The outputs after a change of the wiring: what `change` gives for a call and its new inputs, None to keep it.

    Calls that read nothing changed are kept as they are; the others are made again on the new tensors, on the same
    weights. That adds calls to the layers, and leaves the original graph alone.
    """
    new = {id(t): t for t in inputs}
    for node in calls(inputs, outputs):
        given = [new[id(t)] for t in node.input_tensors]
        changed = change(node, given)
        if changed is not None:
            new[id(node.outputs[0])] = changed
        elif all(t is old for t, old in zip(given, node.input_tensors, strict=True)):
            new.update((id(t), t) for t in node.outputs)
        else:
            args, kwargs = node.arguments.fill_in(new)
            new.update((id(t), r) for t, r in zip(node.outputs, flat(node.operation(*args, **kwargs)), strict=True))
    return [new[id(t)] for t in outputs]


def tensor_names(nodes: Iterable[Node], inputs: Sequence[Tensor] = ()) -> dict[int, str]:
    """A name for each tensor by its id: the operation's; `NAME#2` a second call, `NAME:1` a second output."""
    names = {id(t): t._keras_history.operation.name for t in inputs}
    seen: dict[int, int] = {}
    for node in nodes:
        count = seen[id(node.operation)] = seen.get(id(node.operation), 0) + 1
        name = node.operation.name + (f"#{count}" if count > 1 else "")
        many = len(node.outputs) > 1
        names.update((id(t), f"{name}:{i}" if many else name) for i, t in enumerate(node.outputs))
    return names
