"""What a model's taps look like, for the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_vitcnn.checkpoints import catalog
from tf_vitcnn.models.specs import SPECS

if TYPE_CHECKING:
    import keras


def taps_of(spec: str, image_size: int | None) -> tuple[list[tuple[str, str]], int, tuple[int, int]]:
    """Taps with their shapes ([b, h, w, 3] images: b is left out), the number of parameters, and the image size."""
    model = _unfilled(spec, image_size) if spec in SPECS else _loaded(spec, image_size)
    lines = [(tap, " x ".join(map(str, tensor.shape[1:]))) for tap, tensor in model.output.items()]
    return lines, model.count_params(), tuple(model.inputs[0].shape[1:3])


def _unfilled(name: str, image_size: int | None) -> keras.Model:
    """An architecture without its weights: nothing is fetched."""
    from tf_vitcnn.models import build

    entry = next(iter(catalog.variants(name).values()), None)
    size = image_size or (entry.image_size if entry else 224)
    return build(
        entry.spec if entry else SPECS[name], image_size=size, classes=entry.classes if entry else 1000, seed=None
    )


def _loaded(spec: str, image_size: int | None) -> keras.Model:
    from tf_vitcnn.checkpoints.load import load

    return load(spec, image_size=image_size).model
