"""A functional model's graph repeated with changes, on the same weights, nested models flattened.

Calls that read nothing changed are kept as they are; the others are made again on the new tensors. That adds calls
to the shared layers, and leaves the original model's graph and its weights alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.src.models.functional import Functional  # the class of keras.Model(x, y), public under no other name

from tf_vitcnn import taps
from tf_vitcnn.surgery.graph import Node, Tensor, calls, flat

# A call's new outputs (None: keep the call) from its name, its node and its arguments on the new tensors.
Change = Callable[["Rewired", str, Node, tuple[Any, ...], dict[str, Any]], Any]

_TAILS = tuple("." + taps.layer_name(site) for site in taps.BLOCK)


def tap_of(operation: str) -> str:
    """The tap's name of an operation: its own, but `/` for `.` where it follows our grammar, wholly or at its end."""
    if taps.parse(taps.tap_name(operation)):
        return taps.tap_name(operation)
    tail = next((t for t in _TAILS if operation.endswith(t)), "")
    return operation.removesuffix(tail) + taps.tap_name(tail)


def alias(operation: Any, name: str, **attributes: Any) -> Any:
    """The same operation, on the same weights, under another name and without calls.

    Keras wants unique names in a graph, and the layers inside composite and nested ones repeat theirs. `attributes`
    replace some of the operation's own.
    """
    if not getattr(operation, "built", True):
        operation.name = name  # new, so nobody else's; its `build` is bound to it
        return operation
    twin = object.__new__(type(operation))
    # past Layer.__setattr__, which tracks what it is given and refuses once a layer is built
    twin.__dict__.update(operation.__dict__)
    twin.__dict__.update(name=name, _inbound_nodes=[], _outbound_nodes=[], **attributes)
    return twin


def is_nested(operation: Any) -> bool:
    """Whether an operation is itself a graph, and does nothing but run it."""
    if isinstance(operation, keras.Sequential):
        return bool(operation.built) and type(operation).call is keras.Sequential.call
    return isinstance(operation, Functional) and type(operation).call is Functional.call


def structure_of(model: keras.Model, side: str) -> Any:
    """The model's "input" or "output" structure; one tensor alone where it holds one, so that images need no list."""
    structure = getattr(model, f"{side}s" if isinstance(model, keras.Sequential) else side)
    tensors = flat(structure)
    return tensors[0] if len(tensors) == 1 and (side == "input" or not isinstance(structure, dict)) else structure


def outputs_of(model: keras.Model) -> list[Tensor]:
    """The model's outputs in the order in which a dict declares them (Keras' own flattening sorts its keys)."""
    output = structure_of(model, "output")
    return [t for part in output.values() for t in flat(part)] if isinstance(output, dict) else flat(output)


@dataclass
class Rewired:
    """The new graph while it grows: a name for each of its tensors, in depth order."""

    change: Change | None = None
    filed: dict[str, Tensor] = field(default_factory=dict)
    owner: dict[str, Any] = field(default_factory=dict)  # whose an operation's name is
    opened: bool = False  # whether anything was changed
    stream: Tensor | None = None  # the end of the last opened block of an encoder

    def run(
        self, inputs: Sequence[Tensor], given: Sequence[Tensor], outputs: Sequence[Tensor], prefix: str = ""
    ) -> list[Tensor]:
        """The outputs of the graph between `inputs` and `outputs`, on the `given` tensors instead of its inputs."""
        new = {id(t): value for t, value in zip(inputs, given, strict=True)}
        nodes = calls(inputs, outputs)
        if not prefix:
            self.owner.update((node.operation.name, node.operation) for node in nodes if not is_nested(node.operation))
        seen: dict[int, int] = {}
        for node in nodes:
            count = seen[id(node.operation)] = seen.get(id(node.operation), 0) + 1
            name = prefix + tap_of(node.operation.name) + (f"#{count}" if count > 1 else "")
            results = self.call(name, node, new)
            # an opener may leave out the last outputs, which nothing reads
            new.update((id(t), value) for t, value in zip(node.outputs, results, strict=False))
        return [new[id(t)] for t in outputs]

    def call(self, name: str, node: Node, new: dict[int, Tensor]) -> list[Tensor]:
        """The new outputs of one call, each filed under its name."""
        args, kwargs = node.arguments.fill_in(new)
        changed = self.change(self, name, node, args, kwargs) if self.change else None
        if changed is not None:
            self.opened = True
            return flat(changed)
        if is_nested(node.operation):
            inner = [flat(structure_of(node.operation, side)) for side in ("input", "output")]
            return self.run(inner[0], _matched(node.operation, inner[0], args, kwargs), inner[1], f"{name}/")
        if all(new[id(t)] is t for t in node.input_tensors):
            results = list(node.outputs)
        else:
            results = flat(self.own(node.operation, name)(*args, **kwargs))
        self.file(name, results)
        return results

    def file(self, name: str, results: Sequence[Tensor]) -> None:
        """Names the outputs of a call: `NAME:1` where it has several."""
        many = len(results) > 1
        self.filed.update((f"{name}:{i}" if many else name, t) for i, t in enumerate(results))

    def own(self, operation: Any, name: str) -> Any:
        """The operation, or an alias where another one has its name already."""
        if self.owner.setdefault(operation.name, operation) is operation:
            return operation
        return self.twin(operation, name)

    def twin(self, operation: Any, name: str, **attributes: Any) -> Any:
        """The operation's alias named after a tap; the same one for each of its calls."""
        name = re.sub(r"#\d+", "", name).replace("/", ".")
        while name in self.owner and any(getattr(self.owner[name], key) != value for key, value in attributes.items()):
            name += "_"  # a layer called on another number of tokens
        if name not in self.owner:
            self.owner[name] = alias(operation, name, **attributes)
        return self.owner[name]


def _matched(model: keras.Model, inputs: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The tensors a nested model was called on, in the order of its inputs."""
    given = args[0] if args else kwargs["inputs"]
    if isinstance(given, dict) and not isinstance(model.input, dict):
        return [given[t.name] for t in inputs]
    return flat(given)[: len(inputs)]
