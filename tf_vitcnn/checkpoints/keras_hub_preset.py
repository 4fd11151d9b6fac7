"""Presets of keras-hub as subjects: opened by tracing, images prepared as the preset's own image converter does.

keras_hub:NAME     one of its presets        keras_hub:kaggle:OWNER/MODEL/keras/VARIATION, keras_hub:hf:OWNER/NAME
keras_hub:DIR      what `save_to_preset` wrote
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tf_vitcnn.checkpoints import twin
from tf_vitcnn.checkpoints.foreign import foreign
from tf_vitcnn.devices.start import require_tensorflow
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.data.images import Preprocessing, Resize
    from tf_vitcnn.subject import Subject

Size = tuple[int, int]
PREFIX = "keras_hub:"
SCHEMES = ("kaggle", "hf")
TASK = "task.json"  # beside a backbone's files where there is a head
DEFAULT_SIZE = 224


def load_preset(spec: str, image_size: Size | None, name: str | None, again: int | None = None) -> Subject:
    """The network of a preset, with a head if it has one; or its twin of the seed `again`."""
    require_tensorflow()
    preset = handle(spec)
    lock = Path(tempfile.gettempdir()) / f"tf_vitcnn_preset_{hashlib.sha256(preset.encode()).hexdigest()[:16]}.lock"
    with FileLock(lock):  # kagglehub has none of its own
        model, converter = _loaded(spec, preset)
    size = image_size or _size(model, converter)
    seen = preprocessing(spec, converter, size) if converter is not None else None
    about = {"random": False, "source": preset, "reader": "keras_hub"}
    if again is not None:
        twin.restart(model, spec, again)
        about = twin.about(again, about)
    return foreign(name or _name(preset), spec, model, size, seen, about, "the preset's image converter")


def handle(spec: str) -> str:
    """What keras-hub calls the preset; a folder is checked here, nothing is fetched."""
    preset = spec.removeprefix(PREFIX)
    if not preset:
        raise BadInput(f"{spec}: nothing after ':'; expected a preset, kaggle:..., hf:OWNER/NAME or a folder")
    for scheme in SCHEMES:
        if preset.startswith(f"{scheme}:"):
            return f"{scheme}://{preset.removeprefix(f'{scheme}:').lstrip('/')}"
    path = Path(preset).expanduser()
    if path.is_dir() or "/" in preset:
        if not (path / "config.json").is_file():
            raise BadInput(f"{spec}: no folder that save_to_preset wrote (no config.json); hf:OWNER/NAME for the hub")
        return str(path)
    return preset


def _loaded(spec: str, preset: str) -> tuple[keras.Model, Any]:
    """The network from images, and the image converter if the preset has one."""
    try:
        import keras_hub
        from keras_hub.src.utils.preset_utils import check_file_exists
    except ImportError as error:
        raise BadInput(f"{spec}: needs keras-hub; pip install keras-hub") from error
    try:
        kind = keras_hub.models.ImageClassifier if check_file_exists(preset, TASK) else keras_hub.models.Backbone
        model = kind.from_preset(preset)
    except Exception as error:  # keras-hub's, kagglehub's, the hub's: no common ancestor
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{spec}: keras-hub cannot load it ({reason})") from error
    # of two towers the image's
    model = getattr(model, "vision_encoder", None) or model
    try:
        return model, keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception:  # a preset without one: said by a note on what is assumed
        return model, None


def _size(model: keras.Model, converter: Any) -> Size:
    """The network's own input size, else the converter's."""
    own = tuple(model.inputs[0].shape[1:3]) if getattr(model, "inputs", None) else (None, None)
    given = getattr(converter, "image_size", None) or (DEFAULT_SIZE, DEFAULT_SIZE)
    return (int(own[0] or given[0]), int(own[1] or given[1]))


def preprocessing(spec: str, converter: Any, size: Size) -> Preprocessing:
    """What an image converter does: resizing, then a scale and an offset for each channel.

    Differs from keras-hub: where it crops to the aspect ratio and then resizes, we resize and then crop; on images
    that are not square a pixel may lie up to one place beside.
    """
    from tf_vitcnn.data.images import Preprocessing, values_of

    if converter.pad_to_aspect_ratio:
        raise BadInput(f"{spec}: its image converter pads images; expected one that crops or squeezes them")
    # x * scale + offset = (x / 255 - mean) / std
    scale, offset = _three(converter.scale, 1.0), _three(converter.offset, 0.0)
    std = [1 / (255 * s) for s in scale]
    mean = [-o * s for o, s in zip(offset, std, strict=True)]
    pixels = max(abs(s - 1) for s in scale) < 1e-6 and max(map(abs, offset)) < 1e-6
    values = "0..255" if pixels else values_of([_clean(x) for x in mean], [_clean(x) for x in std])
    crop = 1.0 if converter.crop_to_aspect_ratio else None
    method: Resize = "bicubic" if converter.interpolation == "bicubic" else "bilinear"
    return Preprocessing(size, method, antialias=bool(converter.antialias), crop=crop, values=values)


def _three(given: Any, default: float) -> list[float]:
    """One number for each channel."""
    import numpy as np

    return [float(x) for x in np.broadcast_to(np.ravel(default if given is None else given), 3)]


def _clean(x: float) -> float:
    """The number that was meant: a preset keeps scale and offset, rounded."""
    return round(x, 6) + 0.0


def _name(preset: str) -> str:
    """The last part of the handle that is no version's number."""
    parts = preset.rstrip("/").split("/")
    return parts[-2] if parts[-1].isdigit() and len(parts) > 1 else parts[-1]
