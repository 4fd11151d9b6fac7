"""Keras functional models whose output is the dict of all their sublayers.

`specs` is plain data; TensorFlow loads with the first `build`. `tf_vitcnn.models.layers` registers what Keras
needs to know before it reads one of our `.keras` files.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import (
    SPECS,
    AnySpec,
    ConvNeXtSpec,
    MixerSpec,
    PostResNetSpec,
    ResNetSpec,
    Spec,
    ViTSpec,
    blocks_of,
    check,
    family_of,
    spec_of,
)

if TYPE_CHECKING:
    import keras

__all__ = [
    "SPECS",
    "ConvNeXtSpec",
    "MixerSpec",
    "PostResNetSpec",
    "ResNetSpec",
    "Spec",
    "ViTSpec",
    "build",
    "family_of",
    "spec_of",
]


def build(
    spec: AnySpec | str,
    *,
    image_size: int | tuple[int, int] = 224,
    classes: int = 1000,
    seed: int | None = 0,
    no_skip: Collection[int] = (),
) -> keras.Model:
    """A `keras.Model` from images [b, h, w, 3] to the dict of its taps, in the order of the forward pass.

    Args:
        spec: sizes, or an architecture's name.
        image_size: height and width, or one number for both.
        classes: width of the head; 0 leaves the logits out.
        seed: fixes the initial weights; None makes them all zero, at no cost, for weights that come from a file.
        no_skip: indices of blocks (transformer or mixer blocks, ResNet units) whose skip connections are left out.
    """
    name = spec if isinstance(spec, str) else family_of(spec)
    spec = spec_of(spec) if isinstance(spec, str) else spec
    size = (image_size, image_size) if isinstance(image_size, int) else (int(image_size[0]), int(image_size[1]))
    check(spec)
    if min(size) < 1:
        raise BadInput(f"image size {size[0]} x {size[1]}: expected positive numbers of pixels")
    if classes < 0:
        raise BadInput(f"classes={classes}: expected a positive number, or 0 for no head")
    blocks = blocks_of(spec)
    if bad := sorted(set(no_skip) - set(range(blocks))):
        raise BadInput(f"no block {bad[0]} to take the skips from: {name} has blocks 0 to {blocks - 1}")
    return _builder(spec)(spec, size, classes, seed, frozenset(no_skip), name)


def _builder(spec: AnySpec) -> Any:
    """The function that builds the family; imported here, as it imports TensorFlow."""
    if isinstance(spec, ResNetSpec):
        from tf_vitcnn.models.resnet import resnet

        return resnet
    if isinstance(spec, PostResNetSpec):
        from tf_vitcnn.models.resnet_post import resnet_post

        return resnet_post
    if isinstance(spec, ConvNeXtSpec):
        from tf_vitcnn.models.convnext import convnext

        return convnext
    if isinstance(spec, MixerSpec):
        from tf_vitcnn.models.mixer import mixer

        return mixer
    from tf_vitcnn.models.vit import vit

    return vit
