"""A model opened: traced, and settled into one flat graph of leaves and operations on the same weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tf_vitcnn.errors import BadInput
from tf_vitcnn.opening.graph import Tensor, flat
from tf_vitcnn.opening.settle import IMAGES, FixedError, Settled, Trace, settle
from tf_vitcnn.opening.trace import Tracer, reason

Size = tuple[int, int]
AT_ONCE = 8  # images, where a model's own code wants a number and says none


def structure_of(model: keras.Model, side: str) -> Any:
    """The model's "input" or "output" structure; one tensor alone where it holds one, so that images need no list."""
    structure = getattr(model, f"{side}s" if isinstance(model, keras.Sequential) else side)
    tensors = flat(structure)
    return tensors[0] if len(tensors) == 1 and (side == "input" or not isinstance(structure, dict)) else structure


def opened(model: keras.Model, image_size: Size | None = None) -> Settled:
    """The flat graph of any Keras model."""
    if not isinstance(model, keras.Model):
        raise BadInput(f"expected a Keras model, got {type(model).__name__}")
    given = _inputs(model, image_size)
    first = _traced(model, given, IMAGES[0])
    try:
        return settle(first, _traced(model, given, IMAGES[1]))
    except FixedError as error:
        images = flat(given)[0].shape[0] or AT_ONCE
        settled = settle(_traced(model, given, images), None)
        settled.notes.append(f"{model.name} is opened for {images} images at a time: {error}")
        return settled


def _inputs(model: keras.Model, image_size: Size | None) -> Any:
    """What a model is called on, as symbolic tensors without a graph."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise BadInput(
            f"Sequential model {model.name!r} is not built: give it a keras.Input or call model.build(shape)"
        )
    if isinstance(model, keras.Function | keras.Sequential):
        structure = getattr(model, "inputs" if isinstance(model, keras.Sequential) else "input")
        structure = structure[0] if isinstance(structure, list) and len(structure) == 1 else structure
    else:
        structure = _built(model, image_size)
    return keras.tree.map_structure(lambda t: _sized(t, image_size), structure)


def _built(model: keras.Model, image_size: Size | None) -> Any:
    """The input of a subclassed model: of the size given, else of the one that it was built with."""
    known = getattr(model, "_build_shapes_dict", None) or {}
    shape = next((shape for shape in known.values() if isinstance(shape, tuple | list) and len(shape) == 4), None)
    if image_size:
        shape = (None, *image_size, shape[-1] if shape else 3)
    if shape is None:
        raise BadInput(f"{model.name!r} ({type(model).__name__}) has not seen an image: give an image size, or call it")
    if not model.built:
        model(np.zeros((1, *shape[1:]), "float32"))
    return keras.KerasTensor((None, *shape[1:]), name="images")


def _sized(tensor: Tensor, image_size: Size | None) -> Tensor:
    """An input of images with a fixed size, if there is one."""
    shape = list(tensor.shape)
    if image_size and len(shape) == 4:
        shape[1:3] = [own or given for own, given in zip(shape[1:3], image_size, strict=True)]
    return keras.KerasTensor(shape, tensor.dtype, name=tensor.name)


def _traced(model: keras.Model, given: Any, images: int) -> Trace:
    """The calls of a model on some number of images."""
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=(images, *t.shape[1:]), dtype=t.dtype, name=t.name), given
    )
    tracer = Tracer()
    try:
        with tracer.listen():
            outputs = model(inputs, training=False)
    except Exception as error:  # whatever a model's own code raises on tensors without values
        raise BadInput(
            f"{model.name!r} ({type(model).__name__}) cannot be traced ({reason(error)}); its call "
            "may use keras.ops and layers only, and may not ask for values"
        ) from error
    return Trace(inputs, outputs, tracer)
