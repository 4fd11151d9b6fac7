"""timm's vision transformers: what their names, `config.json` and weights tell together.

Most options show in the arrays (LayerScale, registers, norms, gates, biases); head width, GELU and epsilon show nowhere
but in timm's code, so they stand here as a table of names. Source: timm 1.0.31, vision_transformer.py, deit.py, eva.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tf_vitcnn.checkpoints import torch_vit
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.torch_config import depth, pair, placed, shape
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ViTSpec

KNOWN = r"(vit|deit|deit3|flexivit|eva_large|test_vit|aimv2|beit3)(?=[\d_]|$).*"
# other blocks or other positions under the same names of weights
OTHERWISE = (
    r"_(rpn|xp|18x2|pwee|dpwee|fpwee|dwee|dlittle|radio|rope|pe|eupe|lingbot|relpos|srelpos|sam)(_|$)|_rope|_r\d+_s\d+"
)
HEAD_WIDTH = (
    (r"test_vit\d*", 32),
    (r"vit_base_patch16_gap_224", 48),
    (r"(vit|deit3)_huge_patch1[46].*", 80),
    (r"vit_giant_patch14_(224|clip).*|vit_giant_patch16_gap.*|beit3_giant.*", 88),
    (r"vit_gigantic_.*", 104),
    (r"vit_so400m_.*", 72),
    (r"vit_giantopt_.*", 96),
    (r"aimv2_.*|vit_7b_.*", 128),
    (r".*", 64),
)
GELU = (
    (r".*_quickgelu_.*", "quick"),
    (r"vit_base_patch32_siglip_(gap_)?256|vit_large_patch16_siglip_(gap_)?512", "tanh"),
    (r"vit_(so400m_patch16|giantopt_patch16)_siglip_.*", "tanh"),
    (r".*", "exact"),
)
EPSILON = ((r".*_clip_.*|aimv2_.*|beit3_.*|.*_dinov3.*", 1e-5), (r".*", 1e-6))
SITES = {"embed": "patch_embed.proj", "out": "blocks.0.attn.proj", "mlp": "blocks.0.mlp.fc2", "head": "head"}
POOL = {"token": "cls", "avg": "gap", "map": "map"}


def read(source: str, arrays: Mapping[str, Array], config: Mapping[str, Any]) -> Found:
    """The checkpoint in the released names of ViT, with its sizes."""
    name = architecture(source, config)
    spec, size = spec_of(source, name, arrays, config)
    head = arrays.get("head.weight")
    classes = head.shape[0] if head is not None and head.shape else 0
    return torch_vit.read(source, arrays, torch_vit.TIMM, spec, classes, size, resample="antialiased")


def architecture(source: str, config: Mapping[str, Any]) -> str:
    """The name of the network's builder."""
    name = config.get("architecture")
    if not isinstance(name, str):
        raise BadInput(f"{source}: its config.json names no architecture; expected one that timm wrote")
    return name


def reads(name: str) -> bool:
    """Whether this is one of the transformers that we build."""
    return bool(re.fullmatch(KNOWN, name)) and not re.search(OTHERWISE, name)


def spec_of(
    source: str, name: str, arrays: Mapping[str, Array], config: Mapping[str, Any]
) -> tuple[ViTSpec, tuple[int, int]]:
    """Options and image size of a checkpoint."""
    arguments = config.get("model_args") or {}
    width, _, patch, _ = shape(source, arrays, "patch_embed.proj.weight", 4)
    first, out = (shape(source, arrays, f"blocks.0.{key}.weight", 2) for key in (_first(arrays), "mlp.fc2"))
    gated = "blocks.0.mlp.fc1_g.weight" in arrays or first[0] == 2 * out[1]
    registers = arrays["reg_token"].shape[1] if len(getattr(arrays.get("reg_token"), "shape", ())) == 3 else 0
    classes = sum(key in arrays for key in ("cls_token", "dist_token"))
    positions, size = _positions(source, name, arrays, config, patch, classes + registers, classes)
    return ViTSpec(
        patch=patch,
        width=width,
        depth=depth(arrays, "blocks.{i}"),
        heads=int(arguments.get("num_heads") or max(1, width // lookup(HEAD_WIDTH, name))),
        mlp=out[1],
        pool=_pool(source, arrays, config, arguments),
        distilled="dist_token" in arrays,
        gelu="silu" if gated else lookup(GELU, name),
        cls="cls_token" in arrays,
        registers=registers,
        positions=positions,
        layer_scale="blocks.0.ls1.gamma" in arrays or "blocks.0.gamma_1" in arrays,
        embed_norm="patch_embed.norm.weight" in arrays,
        pre_norm="norm_pre.weight" in arrays,
        norm="layer" if "blocks.0.norm1.bias" in arrays else "rms",
        epsilon=lookup(EPSILON, name),
        qk_norm="blocks.0.attn.q_norm.weight" in arrays,
        gated=gated,
        final_norm="tokens" if "norm.weight" in arrays else "pooled" if "fc_norm.weight" in arrays else "none",
        pool_extra=bool(arguments.get("pool_include_prefix", name == "test_vit3")),
        no_bias=_no_bias(arrays),
    ), size


def lookup(table: tuple[tuple[str, Any], ...], name: str) -> Any:
    """The value of the first pattern that a name fits."""
    return next(value for pattern, value in table if re.fullmatch(pattern, name))


def _first(arrays: Mapping[str, Array]) -> str:
    return "mlp.fc1_x" if "blocks.0.mlp.fc1_x.weight" in arrays else "mlp.fc1"


def _positions(
    source: str, name: str, arrays: Mapping[str, Array], config: Mapping[str, Any], patch: int, extra: int, classes: int
) -> tuple[str, tuple[int, int]]:
    given = (config.get("pretrained_cfg") or {}).get("input_size") or (3, 224, 224)
    size = pair((config.get("model_args") or {}).get("img_size"), 0)
    size = size if min(size) else pair(list(given)[1:], 224)
    if "pos_embed" not in arrays:
        return ("rotary" if "dinov3" in name else "none"), size
    length = shape(source, arrays, "pos_embed", 3)[1]
    kind, grid = placed(source, length, extra, extra, (size[0] // patch, size[1] // patch))
    return kind, (grid[0] * patch, grid[1] * patch)


def _pool(source: str, arrays: Mapping[str, Array], config: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """How tokens become one vector; timm's file says it, else what it has for it."""
    usual = "map" if "attn_pool.latent" in arrays else "token" if "cls_token" in arrays else "avg"
    given = arguments.get("global_pool") or config.get("global_pool") or usual
    if given not in POOL:
        raise BadInput(f"{source}: pooled by {given!r}; expected one of {', '.join(POOL)}")
    return POOL[given]


def _no_bias(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """The sites whose first weight has no bias beside it."""
    bare = [site for site, name in SITES.items() if f"{name}.weight" in arrays and f"{name}.bias" not in arrays]
    if "blocks.0.attn.qkv.bias" not in arrays:
        alone = {site: f"blocks.0.attn.{site}_bias" for site in "qkv"}
        bare += [s for s, key in alone.items() if key not in arrays and f"blocks.0.attn.{s}_proj.bias" not in arrays]
    return tuple(bare)
