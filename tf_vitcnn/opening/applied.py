"""One operation of keras.ops some of whose arguments are not computed from images: weights, or constants made of them.

Keras' graphs keep such arguments, but neither count them as the model's weights nor write them into its file. Here
they belong to a layer. Weights stay the original's own. Constants come from code that ran on weights alone while the
model was traced (`ops.tile(self.cls, (batch, 1, 1))`, interpolated positions, standardised kernels): they are copies.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import keras
from keras import ops

from tf_vitcnn.opening.graph import Tensor

# What stands in the template for a tensor: the number of an input; of something held; the same, once for each image.
SLOT = re.compile(r"@(input|held|tiled)(\d+)")


@keras.saving.register_keras_serializable("tf_vitcnn")
class Applied(keras.layers.Layer):
    """`operation(*args, **kwargs)` with what is held in the place of some arguments.

    `template` is (args, kwargs) with `@input0`, `@held0`, ... for tensors. Something `tiled` is repeated along its
    first axis, once per image; `scaled` names attributes of the operation, places in them, and what the number of
    images is multiplied by there. The number of images is the length of the first input over `per_image`.
    """

    def __init__(
        self,
        operation: Any,
        template: Any,
        shapes: list[dict[str, Any]] | None = None,
        scaled: dict[str, dict[str, int]] | None = None,
        per_image: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._convert_input_args, self.supports_masking = False, True
        self.operation, self.template = operation, _tupled(template)
        self.shapes, self.scaled, self.per_image = list(shapes or []), scaled or {}, per_image
        self.held: list[Any] = []
        self.copies: list[Any] = []

    def own(self, held: list[Any], weights: dict[int, Any]) -> None:
        """Takes weights (those that are there under their number too), and copies of everything else."""
        for i, value in enumerate(held):
            seen = tuple(value.shape)
            weight = value if isinstance(value, keras.Variable) else weights.get(i)
            if weight is None:
                kind = keras.backend.standardize_dtype(value.dtype)
                weight = keras.Variable(value, dtype=kind, trainable=False, autocast=False, name=f"held{i}")
                self.copies.append(weight)
            how = {"shape": tuple(weight.shape), "dtype": weight.dtype, "trainable": weight.trainable}
            self.shapes.append({**how, "autocast": bool(weight._autocast), "seen": seen})
            held[i] = weight
        self.held = held

    def build(self, shape: Any) -> None:
        """Adds weights where it came from a file."""
        if not self.held:
            how = [{key: value for key, value in shape.items() if key != "seen"} for shape in self.shapes]
            self.held = [self.add_weight(name=f"held{i}", initializer="zeros", **kind) for i, kind in enumerate(how)]

    def call(self, inputs: Any) -> Any:
        """What the operation gives."""
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        count = ops.shape(given[0])[0] // self.per_image if self.scaled or "@tiled" in str(self.template) else 0
        args, kwargs = self._filled(given, lambda x: ops.tile(x, (count, *[1] * (len(x.shape) - 1))))
        operation = self._scaled(count)
        return (
            operation(*args, **kwargs) if isinstance(operation, keras.layers.Layer) else operation.call(*args, **kwargs)
        )

    def compute_output_spec(self, inputs: Any) -> Any:
        """As the operation says, for an unknown number of images."""
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        first = given[0].shape[0]
        count = None if first is None else first // self.per_image
        args, kwargs = self._filled(
            given, lambda x: keras.KerasTensor((count and count * x.shape[0], *x.shape[1:]), x.dtype)
        )
        return self._scaled(count).compute_output_spec(*args, **kwargs)

    def _filled(self, given: Any, tile: Any) -> Any:
        def fill(part: Any) -> Any:
            match = SLOT.fullmatch(part) if isinstance(part, str) else None
            if match is None:
                return part
            kind, number = match[1], int(match[2])
            if kind == "input":
                return given[number]
            value, seen = self.held[number], tuple(self.shapes[number]["seen"])
            value = value if tuple(value.shape) == seen else ops.reshape(value, seen)
            return tile(value) if kind == "tiled" else value

        return keras.tree.map_structure(fill, self.template)

    def _scaled(self, count: Any) -> Any:
        if not self.scaled:
            return self.operation
        operation = copy.copy(self.operation)
        for attribute, places in self.scaled.items():
            value = list(getattr(operation, attribute))
            for place, times in places.items():
                value[int(place)] = None if count is None else count * times
            setattr(operation, attribute, tuple(value))
        return operation

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """None: masks end here."""
        return None

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {
            **super().get_config(),
            "operation": keras.saving.serialize_keras_object(self.operation),
            "template": keras.saving.serialize_keras_object(self.template),
            "shapes": self.shapes,
            "scaled": self.scaled,
            "per_image": self.per_image,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Applied:
        """What a file describes."""
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("operation", "template")}
        made: Applied = super().from_config({**config, **parts})
        return made


def _tupled(structure: Any) -> Any:
    """Lists as tuples, which files do not tell apart: operations take either, an index is a tuple."""
    if isinstance(structure, list | tuple):
        return tuple(map(_tupled, structure))
    return {key: _tupled(value) for key, value in structure.items()} if isinstance(structure, dict) else structure


def is_held(value: Any) -> bool:
    """Whether an argument of a call is a weight, or numbers of its own."""
    return isinstance(value, keras.Variable) or (keras.ops.is_tensor(value) or type(value).__name__ == "ndarray")


def holding(
    operation: Any,
    args: Any,
    kwargs: Any,
    name: str,
    policy: Any,
    tiled: dict[int, Any],
    weights: dict[int, Any],
    **more: Any,
) -> Any:
    """The call of an operation with what it holds: the layer, and the tensors to call it on.

    By the number of something held, `tiled` has the part of it that is repeated for each image, `weights` the weight
    that has the same numbers.
    """
    given: list[Tensor] = []
    held: list[Any] = []

    def slot(value: Any) -> Any:
        if isinstance(value, keras.KerasTensor):
            given.append(value)
            return f"@input{len(given) - 1}"
        if not is_held(value):
            return value
        held.append(tiled.get(len(held), value))
        return f"@{'tiled' if len(held) - 1 in tiled else 'held'}{len(held) - 1}"

    template = keras.tree.map_structure(slot, (args, kwargs))
    layer = Applied(operation, template, name=name, dtype=policy, **more)
    layer.own(held, weights)
    layer.built = True
    return layer, given[0] if len(given) == 1 else given
