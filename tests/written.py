"""Toy checkpoints in the layouts of the released ones, values drawn by the golden rule."""

import zipfile

import numpy as np

from tests.golden import seeded
from tf_vitcnn.checkpoints.layouts import rows
from tf_vitcnn.models.specs import HybridStem, MixerSpec, ResNetSpec, ViTSpec

TOYS = {
    "vit": (ViTSpec(8, 24, 2, 3, 40), 32),
    "vit_pre": (ViTSpec(8, 24, 1, 3, 40, pre_logits=24), 32),
    "vit_gap": (ViTSpec(8, 24, 1, 3, 40, pool="gap"), 32),
    "hybrid": (ViTSpec(1, 24, 1, 3, 40, stem=HybridStem((2, 1))), 32),
    "stem_only": (ViTSpec(8, 24, 1, 3, 40, stem=HybridStem()), 64),
    "bit": (ResNetSpec((1, 2)), 32),
    "mixer": (MixerSpec(8, 24, 2, 12, 40), 32),
}
FAMILY = {"vit_pre": "vit", "vit_gap": "vit", "hybrid": "vit", "stem_only": "vit"}


def family(toy):
    return FAMILY.get(toy, toy)


def released(toy, classes=7):
    """A toy's arrays under the released names."""
    spec, size = TOYS[toy]
    arrays = {row.key: seeded.draw(row.key, row.shape) for row in rows(spec, (size, size), classes)}
    if "resnet/head/conv2d/kernel" in arrays:
        arrays["resnet/head/conv2d/kernel"] = arrays["resnet/head/conv2d/kernel"][None, None]
    return arrays


def save(path, arrays):
    """The path of an npz that holds them."""
    np.savez(path, **arrays)
    return path


def save_header(path, name, header):
    """An npz whose one array has that header and no values."""
    with zipfile.ZipFile(path, "w") as archive, archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    return path
