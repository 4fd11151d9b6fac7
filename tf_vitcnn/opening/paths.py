"""Names for calls: the path of the layers whose code led there, the same at every run.

A layer goes by the name that its author gave it. Where Keras numbered it (a count over all layers of the process), it
goes by the attribute that holds it; layers of a functional model keep the names that its summary shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import keras


def snake(operation: Any) -> str:
    """What Keras names an operation of this type by itself, but for the number."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", type(operation).__name__.replace("_", ""))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


@dataclass
class Frame:
    """A layer whose `call` is running: what it has called so far."""

    path: str
    owner: Any = None
    in_summary: bool = True  # of the whole model: so are the names of its layers
    names: dict[int, str] = field(default_factory=dict)  # of its sublayers, by their id
    taken: dict[str, int] = field(default_factory=dict)  # calls of each name
    attributes: dict[int, str] = field(default_factory=dict)

    def child(self, operation: Any) -> str:
        """The path of a call from here: `NAME`, or `NAME#2` where the same layer is called again."""
        key = id(operation)
        if key not in self.names or not isinstance(operation, keras.layers.Layer):
            self.names[key] = self._free(self._plain(operation))
        name = self.names[key]
        self.taken[name] = self.taken.get(name, 0) + 1
        return self.path + name + (f"#{self.taken[name]}" if self.taken[name] > 1 else "")

    def _free(self, name: str) -> str:
        number, free = 0, name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        return free

    def _plain(self, operation: Any) -> str:
        """A layer's name as its author gave it; where Keras numbered it, the attribute that holds it."""
        kind = snake(operation)
        if not isinstance(operation, keras.layers.Layer):
            return re.sub(r"_\d+$", "", operation.name) if operation.name else kind
        if self.in_summary or not re.fullmatch(rf"{kind}(_\d+)?", operation.name):
            return operation.name
        self.attributes = self.attributes or _attributes(self.owner)
        return self.attributes.get(id(operation), kind)


def _attributes(owner: Any) -> dict[int, str]:
    """Under which attribute a layer holds each of its sublayers."""
    found: dict[int, str] = {}

    def look(name: str, value: Any) -> None:
        if isinstance(value, keras.layers.Layer):
            found.setdefault(id(value), name.strip("_"))
        elif isinstance(value, list | tuple):
            for i, part in enumerate(value):
                look(f"{name}_{i}", part)
        elif isinstance(value, dict):
            for key, part in value.items():
                look(f"{name}_{key}", part)

    held = {
        name: value for name, value in vars(owner).items() if not name.startswith(("_layers", "_self_", "_tracker"))
    }
    for name in sorted(held, key=lambda name: name.startswith("_")):
        look(name, held[name])
    return found
