"""Any Keras model as a subject: its calls traced, its structure read, and where its preprocessing was taken from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tf_vitcnn.checkpoints.asked import PARTS
from tf_vitcnn.checkpoints.assign import fingerprint
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.subject import Subject

Size = tuple[int, int]
DEFAULT_SIZE = 224


def foreign(
    name: str,
    spec: str,
    model: keras.Model,
    image_size: Size | None,
    preprocessing: Preprocessing | None,
    about: dict[str, Any],
    source: str = "its card",
) -> Subject:
    """The subject of any Keras model: what its graph tells, then what `about` knows better.

    Args:
        name: in tables.
        spec: what the user called it.
        model: functional, Sequential or subclassed.
        image_size: height and width, for a model that takes any.
        preprocessing: how images reach it, where something says so.
        about: what is known of its training.
        source: what says so.
    """
    from tf_vitcnn import opening
    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.subject import Subject

    shown = opening.open_attention(model, sized(spec, model, image_size))
    found = opening.about(shown)
    size = (int(shown.inputs[0].shape[1]), int(shown.inputs[0].shape[2]))
    taken = dict.fromkeys(PARTS, source)
    if preprocessing is None:
        values, where = values_inside(model, shown)
        preprocessing = Preprocessing(size, values=values)
        taken = {"values": where, "resize": "default", "crop": "default"}
    if preprocessing.size != size:
        raise BadInput(f"{spec}: {source} prepares images of {preprocessing.size}, its input is {size}")
    provenance = {
        **_record(name, spec, shown, about),
        "image_size": list(size),
        "paths": found.paths,
        "notes": [f"{name}: {note}" for note in found.notes],
        "preprocessing": preprocessing.as_dict(),
        "preprocessing_from": taken,
    }
    return Subject(name, shown, preprocessing, provenance)


def _record(name: str, spec: str, shown: keras.Model, about: dict[str, Any]) -> dict[str, Any]:
    """What the graph and the weights tell, and what is known of the training."""
    from tf_vitcnn import opening

    structure = opening.structure(shown)
    facts = {key: structure.pop(key) for key in ("family", "pool", "patch_size", "depth", "no_skip")}
    return {
        "name": name,
        "spec": spec,
        "training_images": None,
        "trained_on": None,
        "finetuned_from": None,
        "final_accuracy": None,
        "random": False,
        **facts,
        "structure": structure,
        **about,
        "parameters": shown.count_params(),
        "weights_sha256": fingerprint(shown, spec),
        "taps": list(shown.output),
    }


def values_inside(model: keras.Model, shown: keras.Model) -> tuple[str, str]:
    """The value range, and what says so: a layer that reads the images themselves, or nothing (-1..1)."""
    import keras

    from tf_vitcnn.opening.graph import calls, flat

    inputs = flat(shown.inputs)
    for node in calls(inputs, list(shown.output.values())):
        if any(t is image for t in node.input_tensors for image in inputs):
            layer = node.operation
            if isinstance(layer, keras.layers.Rescaling) and _is_bytes(layer):
                return "0..255", f"the layer {layer.name!r} at its input"
            if isinstance(layer, keras.layers.Normalization) and _mean(layer) > 2:
                return "0..255", f"the layer {layer.name!r} at its input"
            if isinstance(layer, keras.layers.Normalization) and 0 < _mean(layer) <= 1:
                return "0..1", f"the layer {layer.name!r} at its input"
    return "-1..1", "default"


def _is_bytes(layer: Any) -> bool:
    """Whether a rescaling brings 0..255 to about one."""
    import numpy as np

    scale = np.abs(np.asarray(layer.scale, float))
    return bool(np.all((scale > 1 / 600) & (scale < 1 / 25)))


def _mean(layer: Any) -> float:
    import numpy as np

    return float(np.mean(np.asarray(layer.mean)))


def sized(spec: str, model: keras.Model, image_size: Size | None) -> Size | None:
    """The image size to open a model with; its own unless it takes any."""
    import keras

    if not isinstance(model, keras.Function | keras.Sequential):
        return image_size
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise BadInput(f"{spec}: takes {shapes or 'no fixed input'}; expected one input of images [b, h, w, 3]")
    own = shapes[0][1:3]
    wanted = image_size or tuple(side or DEFAULT_SIZE for side in own)
    if any(side is not None and side != given for side, given in zip(own, wanted, strict=True)):
        raise BadInput(f"{spec}: takes images of {own[0]} x {own[1]}; leave the image size {wanted} out")
    return wanted[0], wanted[1]
