"""transformers' vision transformers: ViT, DeiT, MAE, I-JEPA, DINOv2 (with registers), DINOv3, CLIP and SigLIP.

`config.json` gives sizes and options, the arrays say which heads are there. Older and newer spellings of the weights
are accepted. What belongs to another network (a text tower, a decoder, a mask token) is left out, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tf_vitcnn.checkpoints import torch_vit
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found, within
from tf_vitcnn.checkpoints.torch_config import number, pair
from tf_vitcnn.checkpoints.torch_conv import MODEL_TYPES
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.models.specs import ViTSpec

Config = Mapping[str, Any]
GELU = {
    **dict.fromkeys(("gelu", "gelu_python"), "exact"),
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast"), "tanh"),
    **{"quick_gelu": "quick", "silu": "silu", "swish": "silu", "relu": "relu"},
}


@dataclass(frozen=True)
class Kind:
    """What the code of a `model_type` does that its configuration does not say."""

    epsilon: float = 1e-12  # where the configuration is silent
    gelu: str = "gelu"
    patch: int = 16
    image: int = 224
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    cls: bool = True
    positions: str = "all"
    pool: str = "cls"
    resample: str = "bicubic"


VIT = Kind()
KINDS = {
    "vit": VIT,
    "vit_msn": Kind(epsilon=1e-6),
    "vit_mae": VIT,
    "deit": VIT,
    "ijepa": Kind(cls=False, pool="gap"),
    "dinov2": Kind(epsilon=1e-6, patch=14),
    "dinov2_with_registers": Kind(epsilon=1e-6, positions="cls", resample="antialiased"),
    "dinov3_vit": Kind(epsilon=1e-5, width=384, heads=6, mlp=1536, positions="rotary"),
    "clip_vision_model": Kind(epsilon=1e-5, gelu="quick_gelu", patch=32),
    "siglip_vision_model": Kind(epsilon=1e-6, gelu="gelu_pytorch_tanh", cls=False, pool="map"),
}
WHOLE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}  # two towers: the image's is `vision_config`
PREFIXES = ("vit.", "deit.", "dinov2.", "dinov2_with_registers.", "dinov3_vit.", "ijepa.", "vision_model.", "")
LEFT_OUT = re.compile(
    r"(.*\.)?(mask_token|position_ids|inv_freq|rope_embeddings\..*)|(decoder|text_model|text_projection)(\..*)?|"
    r"logit_(scale|bias)|mask_token|pooler\..*"
)


def read(source: str, arrays: Mapping[str, Array], config: Config) -> Found:
    """The checkpoint in the released names of ViT, with its sizes."""
    name = config.get("model_type")
    kind_name = WHOLE.get(str(name), name)
    if name in WHOLE:
        config = {**(config.get("vision_config") or {}), "projection_dim": config.get("projection_dim")}
    if kind_name not in KINDS:
        raise unknown("model_type of transformers", str(name), [*KINDS, *WHOLE, *MODEL_TYPES])
    kind = KINDS[str(kind_name)]
    arrays = _bare(arrays)
    # a pooler is a layer before the head only in ViT; elsewhere nothing is trained to read it
    pooler = kind_name in ("vit", "deit", "ijepa") and "pooler.dense.weight" in arrays
    left = [key for key in arrays if LEFT_OUT.fullmatch(key) and not (pooler and key.startswith("pooler."))]
    kept = {key: array for key, array in arrays.items() if key not in left}
    spec, size = spec_of(str(kind_name), kind, kept, config)
    head = next((kept[f"{h}.weight"] for h in torch_vit.TRANSFORMERS["head"] if f"{h}.weight" in kept), None)
    classes = head.shape[0] if head is not None and head.shape else 0
    names = torch_vit.block_names(kept)
    about = {"resample": kind.resample, "left_out": tuple(left)}
    return torch_vit.read(source, kept, names, spec, classes, size, **about)


def _bare(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays without the prefix of the network inside a model with a head."""
    for prefix in PREFIXES:
        if any(key.startswith(f"{prefix}embeddings.") for key in arrays):
            found = {key.removeprefix(prefix): array for key, array in arrays.items()}
            return found if len(found) == len(arrays) else within(arrays, (prefix,), "embeddings.")
    return dict(arrays)


def spec_of(name: str, kind: Kind, arrays: Mapping[str, Array], config: Config) -> tuple[ViTSpec, tuple[int, int]]:
    """Options and image size of a checkpoint."""
    size, width = pair(config.get("image_size"), kind.image), int(number(config, "hidden_size", kind.width))
    patch = pair(config.get("patch_size"), kind.patch)
    if patch[0] != patch[1]:
        raise BadInput(f"config.json: patches of {patch[0]} x {patch[1]} pixels; expected square ones")
    gated = bool(config.get("use_swiglu_ffn") or config.get("use_gated_mlp"))
    register_key = "embeddings.register_tokens"
    registers = arrays[register_key].shape[-2] if len(getattr(arrays.get(register_key), "shape", ())) == 3 else 0
    head = arrays.get("classifier.weight")
    both = name.startswith("dinov2") and head is not None and head.shape[1:] == (2 * width,)
    clip = name == "clip_vision_model"
    return ViTSpec(
        patch=patch[0],
        width=width,
        depth=int(number(config, "num_hidden_layers", kind.depth)),
        heads=int(number(config, "num_attention_heads", kind.heads)),
        mlp=_mlp(name, kind, config, width, gated),
        pool="cls+gap" if both else kind.pool if kind.pool != "map" or "head.probe" in arrays else "gap",
        distilled="embeddings.distillation_token" in arrays,
        pre_logits=width if "pooler.dense.weight" in arrays else 0,
        gelu="silu" if gated and name == "dinov2" else _gelu(config, kind),
        cls=kind.cls,
        registers=registers,
        positions=kind.positions if name != "dinov3_vit" else _rotary(config),
        layer_scale=name.startswith("dino"),
        pre_norm=clip,
        epsilon=float(number(config, "layer_norm_eps", kind.epsilon)),
        gated=gated,
        no_bias=_no_bias(name, config),
    ), size


def _mlp(name: str, kind: Kind, config: Config, width: int, gated: bool) -> int:
    """The hidden width: a number, or for DINOv2 a ratio; its SwiGLU has two thirds of it, up to a multiple of eight."""
    if not name.startswith("dinov2"):
        return int(number(config, "intermediate_size", kind.mlp))
    hidden = int(width * number(config, "mlp_ratio", 4))
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden


def _gelu(config: Config, kind: Kind) -> str:
    given = config.get("hidden_act") or kind.gelu
    if given not in GELU:
        raise unknown("hidden_act", str(given), GELU)
    return GELU[given]


def _rotary(config: Config) -> str:
    """The kind of positions of DINOv3, whose angles' base we have as a constant."""
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta") or 100.0
    if theta != 100.0:
        raise BadInput(f"config.json: rope_theta is {theta}; expected 100, as DINOv3 has")
    return "rotary"


def _no_bias(name: str, config: Config) -> tuple[str, ...]:
    """The sites without a bias."""
    if name == "clip_vision_model":
        return ("embed", "head")
    if name == "dinov3_vit":
        flags = {"q": "query_bias", "k": "key_bias", "v": "value_bias", "out": "proj_bias", "mlp": "mlp_bias"}
        return tuple(site for site, flag in flags.items() if not config.get(flag, site != "k"))
    return () if config.get("qkv_bias", True) else ("q", "k", "v")
