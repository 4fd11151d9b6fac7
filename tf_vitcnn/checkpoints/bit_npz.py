"""BiT weights under the released names: `resnet/block1/unit01/a/standardized_conv2d/kernel`.

Some files number the layers (`standardized_conv2d_13`), some exports add `:0` or a prefix such as `keras_layer/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found, numbered, renamed, shape_of
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ResNetSpec

ROOT = "resnet/root_block/standardized_conv2d/kernel"
HEAD = "resnet/head/conv2d"


def is_bit(arrays: Mapping[str, Array]) -> bool:
    """Whether the names are a BiT-ResNet's."""
    return any("/unit01/a/standardized_conv2d" in f"/{name}" for name in arrays)


def read(source: str, arrays: Mapping[str, Array]) -> Found:
    """The checkpoint under the released names, with its sizes."""
    kept = {name: array for name, array in arrays.items() if not _bookkeeping(name)}
    arrays = {key: _flat_norm(key, array) for key, array in renamed(source, kept, _released).items()}
    width = shape_of(source, arrays, ROOT, 4, str)[-1]
    if width % 32:
        raise BadInput(f"{source}: {ROOT} makes {width} channels; expected a multiple of 32, the groups of its norms")
    stages = range(1, 1 + max(0, numbered(arrays, r"resnet/block(\d+)/")))
    units = tuple(max(0, numbered(arrays, rf"resnet/block{stage}/unit(\d+)/")) for stage in stages)
    head = arrays.get(f"{HEAD}/kernel") or arrays.get(f"{HEAD}/bias")
    if head is not None and head.shape[:2] == (1, 1):
        # a convolution over one pixel is a dense layer
        arrays[f"{HEAD}/kernel"] = head.reshaped(head.shape[2:])
    spec = ResNetSpec(units, factor(width))
    return Found(source, "bit", arrays, spec, head.shape[-1] if head else 0, image_size=None)


def _flat_norm(key: str, array: Array) -> Array:
    """Scale and shift as vectors where they were stored ready to be broadcast, (1, 1, 1, C)."""
    broadcast = key.endswith(("/gamma", "/beta")) and array.shape[:-1] == (1, 1, 1)
    return array.reshaped(array.shape[-1:]) if broadcast else array


def factor(width: int) -> float:
    """How much wider than a ResNet a root with so many channels is; whole numbers stay whole."""
    return width // 64 if width % 64 == 0 else width / 64


def _bookkeeping(name: str) -> bool:
    return re.split(r"[/:]", name)[0] in ("global_step", "save_counter") or name.startswith("opt/")


def _released(name: str) -> str:
    """A name as the released files have it."""
    name = name.removesuffix(":0")
    if match := re.search(r"(?:^|/)((?:root_block|block\d+/unit\d+|head/conv2d|group_norm)(?:_\d+)?/.*)", name):
        name = f"resnet/{match[1]}"
    return re.sub(r"(?<=/)(standardized_conv2d|group_norm|conv2d)_\d+(?=/)", r"\1", name)
