"""The networks of keras.applications as subjects, with ImageNet or seeded random weights."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_vitcnn.checkpoints.foreign import foreign
from tf_vitcnn.errors import BadInput, unknown

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.subject import Subject

Size = tuple[int, int]
# What each `preprocess_input` does; those that rescale inside take 0..255.
VALUES = (
    ("caffe", ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19")),
    ("imagenet", ("DenseNet121", "DenseNet169", "DenseNet201")),
    ("-1..1", ("ResNet50V2", "ResNet101V2", "ResNet152V2", "InceptionV3", "InceptionResNetV2", "Xception")),
    ("-1..1", ("MobileNet", "MobileNetV2", "NASNetMobile", "NASNetLarge")),
)
INSIDE = "0..255"


def load_application(spec: str, image_size: Size | None, seed: int, name: str | None) -> Subject:
    """`keras:ResNet50` with its ImageNet weights, `keras:ResNet50@random` with seeded ones."""
    import keras

    from tf_vitcnn.data.images import Preprocessing

    wanted, weights = named(spec)
    build = getattr(keras.applications, wanted)
    if weights == "random":
        keras.utils.set_random_seed(seed)
        model = _built(spec, build, weights=None, input_shape=(*image_size, 3) if image_size else None)
    else:
        model = _other_size(spec, _built(spec, build, weights="imagenet"), image_size)
    values = next((value for value, names in VALUES if wanted in names), INSIDE)
    trained: dict[str, Any] = {"trained_on": "imagenet2012", "training_images": 1_281_167}
    about = {"random": True, "seed": seed} if weights == "random" else {**trained, "random": False}
    size = (int(model.inputs[0].shape[1]), int(model.inputs[0].shape[2]))
    preprocessing = Preprocessing(size, values=values)
    return foreign(name or wanted, spec, model, None, preprocessing, about)


def named(spec: str) -> tuple[str, str]:
    """The class and the weights of a spec; a misspelt one is refused, without Keras."""
    wanted, at, weights = spec.removeprefix("keras:").partition("@")
    known = classes()
    if known and wanted not in known:
        raise unknown("keras.applications model", wanted, known)
    if at and weights not in ("random", "imagenet"):
        raise unknown(f"weights of keras:{wanted}", weights, ("imagenet", "random"))
    return wanted, weights


def classes() -> list[str]:
    """The networks that the installed Keras names; importing it would load TensorFlow."""
    found = importlib.util.find_spec("keras")
    folders = found.submodule_search_locations if found else None
    listed = Path(next(iter(folders or [""]))) / "applications" / "__init__.py"
    source = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    return re.findall(r"\bas ([A-Z]\w+)", source)


def _built(spec: str, build: Any, **flags: Any) -> keras.Model:
    """The network; a progress bar of a download is no output of ours."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return build(**flags)
    except Exception as error:  # no network, a size that it does not take: Keras raises plain exceptions
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{spec}: cannot be made ({reason}); take {spec.partition('@')[0]}@random offline") from error


def _other_size(spec: str, model: keras.Model, image_size: Size | None) -> keras.Model:
    """The same weights on images of another size, which the pretrained constructor refuses."""
    import keras

    if image_size is None or tuple(model.inputs[0].shape[1:3]) == image_size:
        return model
    images = keras.Input((*image_size, 3), name="images")
    try:
        return keras.models.clone_model(model, input_tensors=images, clone_function=lambda layer: layer)
    except Exception as error:  # a flattened map fixes the size
        reason = " ".join(str(error).split())[:150]
        raise BadInput(f"{spec}: cannot take images of {image_size} ({reason}); leave the size out") from error
