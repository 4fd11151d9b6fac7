"""ViT and hybrid weights under the released names, from any numbering that vision_transformer and big_vision wrote.

Released: LayerNorm_0, MultiHeadDotProductAttention_1, LayerNorm_2, MlpBlock_3 (one count in the order of calls).
Linen counts each kind apart (LayerNorm_0, LayerNorm_1, ...); scan stacks all blocks on a leading axis; big_vision keeps
`pos_embedding` at the top, without a row for the class token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isqrt

import numpy as np

from tf_vitcnn.checkpoints import layouts
from tf_vitcnn.checkpoints.arrays import Array, Stack
from tf_vitcnn.checkpoints.found import Found, numbered, renamed, shape_of, within
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import HybridStem, ViTSpec

PREFIXES = ("opt/target/img/", "opt/target/", "optimizer/target/", "params/img/", "params/", "img/", "")
LINEN = {
    "LayerNorm_1": "LayerNorm_2",
    "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
    "MlpBlock_0": "MlpBlock_3",
}
POSITIONS = "Transformer/posembed_input/pos_embedding"
BLOCK = "Transformer/encoderblock_"


def is_vit(arrays: Mapping[str, Array]) -> bool:
    """Whether the names are a vision transformer's."""
    return any("Transformer/encoderblock" in name for name in arrays)


def read(source: str, arrays: Mapping[str, Array], gelu: str = "tanh") -> Found:
    """The checkpoint under the released names, with its sizes."""
    arrays = within(arrays, PREFIXES, "Transformer/")
    if any(name.startswith(("MAPHead_0/", "probe")) for name in arrays):
        raise BadInput(f"{source}: pooled by attention (MAPHead_0); expected a class token or the mean over tokens")
    arrays = _unstacked(source, arrays)
    is_linen = any(f"/{name}/" in key for key in arrays for name in LINEN)
    spelled: Callable[[str], str] = linen if is_linen else str
    arrays = renamed(source, arrays, _released)
    arrays = {key: _flat_norm(key, array) for key, array in arrays.items()}
    arrays = _with_cls_position(arrays)
    spec = _spec(source, arrays, spelled, gelu)
    head = arrays.get("head/kernel") or arrays.get("head/bias")
    tokens = shape_of(source, arrays, POSITIONS, 3, spelled)[1] - len(spec.extra)
    side = isqrt(max(tokens, 0)) * layouts.stride(spec)
    return Found(source, "vit", arrays, spec, head.shape[-1] if head else 0, (side, side), spelled)


def _released(name: str) -> str:
    """A name as the released files have it."""
    if name in ("pos_embedding", "Transformer/pos_embedding"):
        return POSITIONS
    parts = name.split("/")
    if len(parts) > 2 and parts[1].startswith("encoderblock_"):
        parts[2] = LINEN.get(parts[2], parts[2])
    return "/".join(parts)


def linen(name: str) -> str:
    """The inverse of `_released`, for messages."""
    back = {old: new for new, old in LINEN.items()}
    return "/".join(back.get(part, part) for part in name.split("/"))


def _unstacked(source: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Blocks on their own where scan has stacked them on a leading axis."""
    prefix = "Transformer/encoderblock/"
    stacked = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    depths = {array.shape[:1] for array in stacked.values()}
    if len(depths) > 1:
        raise BadInput(f"{source}: stacked blocks count {sorted(depths)} layers; expected one number")
    stack = Stack()
    result = {name: array for name, array in arrays.items() if name not in stacked}
    for name, array in stacked.items():
        for i, layer in enumerate(stack.layers(array)):
            result[f"{BLOCK}{i}/{name[len(prefix) :]}"] = layer
    return result


def _flat_norm(key: str, array: Array) -> Array:
    """GroupNorm's (1, 1, 1, C) as (C,): before linen it was stored ready to be broadcast."""
    if re.search(r"(^|/)gn(\d+|_root|_proj)/(scale|bias)$", key) and array.shape[:-1] == (1, 1, 1):
        return array.reshaped(array.shape[-1:])
    return array


def _with_cls_position(arrays: dict[str, Array]) -> dict[str, Array]:
    """A row of zeros for the class token where positions were added before it came."""
    positions = arrays.get(POSITIONS)
    if positions is None or "cls" not in arrays or len(positions.shape) != 3:
        return arrays
    n, length, d = positions.shape
    if isqrt(length) ** 2 != length:
        return arrays

    def read() -> np.ndarray:
        return np.concatenate([np.zeros((n, 1, d), np.float32), positions.values()], axis=1)

    return {**arrays, POSITIONS: Array(positions.name, (n, length + 1, d), np.dtype(np.float32), read)}


def _spec(source: str, arrays: Mapping[str, Array], spelled: Callable[[str], str], gelu: str) -> ViTSpec:
    """The sizes, read from shapes."""

    def shape(key: str, rank: int) -> tuple[int, ...]:
        return shape_of(source, arrays, key, rank, spelled)

    patch, _, _, width = shape("embedding/kernel", 4)
    depth = 1 + numbered(arrays, rf"{BLOCK}(\d+)/")
    heads = shape(f"{BLOCK}0/MultiHeadDotProductAttention_1/query/kernel", 3)[1]
    mlp = shape(f"{BLOCK}0/MlpBlock_3/Dense_0/kernel", 2)[1]
    return ViTSpec(
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp=mlp,
        pool="cls" if "cls" in arrays else "gap",
        distilled="dist" in arrays,
        pre_logits=shape("pre_logits/kernel", 2)[1] if "pre_logits/kernel" in arrays else 0,
        gelu=gelu,
        stem=_stem(arrays),
    )


def _stem(arrays: Mapping[str, Array]) -> HybridStem | None:
    """The ResNet before a hybrid's embedding."""
    root = arrays.get("conv_root/kernel")
    if root is None:
        return None
    stages = range(1, 1 + max(0, numbered(arrays, r"block(\d+)/unit")))
    units = tuple(max(0, numbered(arrays, rf"block{stage}/unit(\d+)/")) for stage in stages)
    return HybridStem(units, root.shape[-1] // 64)
