"""The subject of one of our own models, with what is known of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tf_vitcnn.checkpoints import layouts
from tf_vitcnn.checkpoints.assign import fingerprint
from tf_vitcnn.models.specs import AnySpec, MixerSpec, ViTSpec, blocks_of, family_of

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.subject import Subject


def subject(
    name: str, spec: str, model: keras.Model, sizes: AnySpec, preprocessing: Preprocessing, about: dict[str, Any]
) -> Subject:
    """The subject of one of our models, with its provenance."""
    from tf_vitcnn.subject import Subject

    tokens = sizes if isinstance(sizes, ViTSpec | MixerSpec) else None
    provenance = {
        "name": name,
        "spec": spec,
        "family": family_of(sizes),
        "pool": sizes.pool if isinstance(sizes, ViTSpec) else "gap",
        "patch_size": layouts.stride(tokens) if tokens else None,
        "image_size": list(preprocessing.size),
        "depth": blocks_of(sizes),
        "no_skip": [],
        "architecture": {"kind": type(sizes).__name__, **asdict(sizes)},
        "training_images": None,
        "trained_on": None,
        "finetuned_from": None,
        "final_accuracy": None,
        **about,
        "parameters": model.count_params(),
        "weights_sha256": fingerprint(model, spec),
        "taps": list(model.output),
        "preprocessing": preprocessing.as_dict(),
    }
    return Subject(name, model, preprocessing, provenance)
