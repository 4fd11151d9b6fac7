"""MLP-Mixer weights under the released names, also from the layout that big_vision calls legacy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found, numbered, renamed, shape_of, within
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import MixerSpec

PREFIXES = ("opt/target/", "optimizer/target/", "params/", "")
LEGACY = {
    "kernel1": "Dense_0/kernel",
    "bias1": "Dense_0/bias",
    "kernel2": "Dense_1/kernel",
    "bias2": "Dense_1/bias",
}


def is_mixer(arrays: Mapping[str, Array]) -> bool:
    """Whether the names are an MLP-Mixer's."""
    return any("MixerBlock_0/" in name or "Mixer/encoderblock_0/" in name for name in arrays)


def read(source: str, arrays: Mapping[str, Array]) -> Found:
    """The checkpoint under the released names, with its sizes."""
    anchor = "Mixer/" if any("Mixer/encoderblock_0/" in name for name in arrays) else "MixerBlock_0/"
    arrays = within(arrays, PREFIXES, anchor)
    if anchor == "Mixer/":
        arrays = {
            name: array.squeezed() if re.search("(kernel|bias)[12]$", name) else array for name, array in arrays.items()
        }
        arrays = renamed(source, arrays, _released)

    def shape(key: str, rank: int) -> tuple[int, ...]:
        return shape_of(source, arrays, key, rank, str)

    patch, _, _, width = shape("stem/kernel", 4)
    tokens, tokens_mlp = shape("MixerBlock_0/token_mixing/Dense_0/kernel", 2)
    channels_mlp = shape("MixerBlock_0/channel_mixing/Dense_0/kernel", 2)[1]
    head = arrays.get("head/kernel") or arrays.get("head/bias")
    if isqrt(tokens) ** 2 != tokens:
        raise BadInput(f"{source}: mixes {tokens} tokens; expected a square grid")
    side = isqrt(tokens) * patch
    spec = MixerSpec(patch, width, 1 + numbered(arrays, r"MixerBlock_(\d+)/"), tokens_mlp, channels_mlp)
    return Found(source, "mixer", arrays, spec, head.shape[-1] if head else 0, (side, side))


def _released(name: str) -> str:
    """A legacy name as the released files have it."""
    if name.startswith("embedding/"):
        return "stem/" + name.removeprefix("embedding/")
    name = name.replace("Mixer/encoder_norm/", "pre_head_layer_norm/").replace("Mixer/encoderblock_", "MixerBlock_")
    parts = name.split("/")
    # before linen one count ran over all kinds of layers: the second norm is whichever is not the first
    if len(parts) > 2 and parts[1].startswith("LayerNorm_") and parts[1] != "LayerNorm_0":
        parts[1] = "LayerNorm_1"
    if len(parts) > 2 and parts[1].endswith("_mixing_phase_0"):
        parts[1] = parts[1].removesuffix("_phase_0")
        parts[2] = LEGACY.get(parts[2], parts[2])
    return "/".join(parts)
