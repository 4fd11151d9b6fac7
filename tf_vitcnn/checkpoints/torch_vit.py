"""Vision transformers under the names of timm and transformers, told in the released names of ViT's `.npz`.

Linear weights are stored [out, in], kernels [out, in, h, w]. One weight of ours is one array of the file, turned, or
a part of one: timm keeps query, key and value in one matrix, packed SwiGLUs gate and value, registers one array.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.layouts import MAP, rows
from tf_vitcnn.models.specs import ViTSpec

# site: the file's names of it, any of which may stand there; "NAME:1/3" is the second third of its rows
Names = Mapping[str, Sequence[str]]
Turn = Callable[[Array, ViTSpec, int], Array]

TIMM: Names = {
    "embed": ("patch_embed.proj",),
    "embed_norm": ("patch_embed.norm",),
    "cls": ("cls_token",),
    "dist": ("dist_token",),
    "reg": ("reg_token",),
    "pos": ("pos_embed",),
    "pre_norm": ("norm_pre",),
    "ln1": ("blocks.{i}.norm1",),
    "q": ("blocks.{i}.attn.qkv:0/3", "blocks.{i}.attn.q_proj"),
    "k": ("blocks.{i}.attn.qkv:1/3", "blocks.{i}.attn.k_proj"),
    "v": ("blocks.{i}.attn.qkv:2/3", "blocks.{i}.attn.v_proj"),
    "q.bias": ("blocks.{i}.attn.q_bias",),
    "v.bias": ("blocks.{i}.attn.v_bias",),
    "q_norm": ("blocks.{i}.attn.q_norm",),
    "k_norm": ("blocks.{i}.attn.k_norm",),
    "out": ("blocks.{i}.attn.proj",),
    "ls1": ("blocks.{i}.ls1.gamma", "blocks.{i}.gamma_1"),
    "ln2": ("blocks.{i}.norm2",),
    "gate": ("blocks.{i}.mlp.fc1_g", "blocks.{i}.mlp.fc1:0/2"),
    "gated": ("blocks.{i}.mlp.fc1_x", "blocks.{i}.mlp.fc1:1/2"),
    "fc1": ("blocks.{i}.mlp.fc1",),
    "fc2": ("blocks.{i}.mlp.fc2",),
    "ls2": ("blocks.{i}.ls2.gamma", "blocks.{i}.gamma_2"),
    "norm": ("norm",),
    "head_norm": ("fc_norm",),
    "probe": ("attn_pool.latent",),
    "map_q": ("attn_pool.q",),
    "map_k": ("attn_pool.kv:0/2",),
    "map_v": ("attn_pool.kv:1/2",),
    "map_out": ("attn_pool.proj",),
    "map_ln": ("attn_pool.norm",),
    "map_fc1": ("attn_pool.mlp.fc1",),
    "map_fc2": ("attn_pool.mlp.fc2",),
    "head": ("head",),
    "head_dist": ("head_dist",),
}

TRANSFORMERS: Names = {
    "embed": ("embeddings.patch_embeddings.projection", "embeddings.patch_embeddings", "embeddings.patch_embedding"),
    "cls": ("embeddings.cls_token", "embeddings.class_embedding"),
    "dist": ("embeddings.distillation_token",),
    "reg": ("embeddings.register_tokens",),
    "pos": ("embeddings.position_embeddings", "embeddings.position_embedding.weight"),
    "pre_norm": ("pre_layrnorm",),
    "ln1": ("{b}.layernorm_before", "{b}.norm1", "{b}.layer_norm1"),
    "q": ("{b}.attention.attention.query", "{b}.attention.q_proj", "{b}.self_attn.q_proj"),
    "k": ("{b}.attention.attention.key", "{b}.attention.k_proj", "{b}.self_attn.k_proj"),
    "v": ("{b}.attention.attention.value", "{b}.attention.v_proj", "{b}.self_attn.v_proj"),
    "out": ("{b}.attention.output.dense", "{b}.attention.o_proj", "{b}.self_attn.out_proj"),
    "ls1": ("{b}.layer_scale1.lambda1",),
    "ln2": ("{b}.layernorm_after", "{b}.norm2", "{b}.layer_norm2"),
    "gate": ("{b}.mlp.weights_in:0/2", "{b}.mlp.gate_proj"),
    "gated": ("{b}.mlp.weights_in:1/2", "{b}.mlp.up_proj"),
    "fc1": ("{b}.intermediate.dense", "{b}.mlp.fc1", "{b}.mlp.up_proj"),
    "fc2": ("{b}.output.dense", "{b}.mlp.fc2", "{b}.mlp.weights_out", "{b}.mlp.down_proj"),
    "ls2": ("{b}.layer_scale2.lambda1",),
    "norm": ("layernorm", "norm", "post_layernorm"),
    "pre_logits": ("pooler.dense",),
    "probe": ("head.probe",),
    "map_q.weight": ("head.attention.in_proj_weight:0/3",),
    "map_q.bias": ("head.attention.in_proj_bias:0/3",),
    "map_k.weight": ("head.attention.in_proj_weight:1/3",),
    "map_k.bias": ("head.attention.in_proj_bias:1/3",),
    "map_v.weight": ("head.attention.in_proj_weight:2/3",),
    "map_v.bias": ("head.attention.in_proj_bias:2/3",),
    "map_out": ("head.attention.out_proj",),
    "map_ln": ("head.layernorm",),
    "map_fc1": ("head.mlp.fc1",),
    "map_fc2": ("head.mlp.fc2",),
    "head": ("classifier", "cls_classifier", "visual_projection"),
    "head_dist": ("distillation_classifier",),
}
# blocks are counted under one of these
BLOCKS = ("encoder.layer.{i}", "encoder.layers.{i}", "layers.{i}", "layer.{i}", "model.layer.{i}")


def read(
    source: str,
    arrays: Mapping[str, Array],
    names: Names,
    spec: ViTSpec,
    classes: int,
    image_size: tuple[int, int],
    **about: object,
) -> Found:
    """The checkpoint in the released names; what has no place in the network stays under its own name."""
    found, spelled, used = dict[str, Array](), dict[str, str](), set[str]()
    for row in rows(spec, image_size, classes):
        key, part, turn = _source(row.key, names, arrays, spec)
        spelled[row.key] = key
        if key in arrays:
            used.add(key)
            found[row.key] = turn(_cut(arrays[key], *part))
    surplus = {name: array for name, array in arrays.items() if name not in used}
    return Found(
        source,
        "vit",
        {**found, **surplus},
        spec,
        classes,
        image_size,
        lambda key: spelled.get(key, key),
        **about,  # type: ignore[arg-type]
    )


def block_names(arrays: Iterable[str]) -> Names:
    """The names of transformers with the blocks where this file has them."""
    there = set(arrays)
    block = next((b for b in BLOCKS if any(key.startswith(f"{b.format(i=0)}.") for key in there)), BLOCKS[0])
    return {site: [name.replace("{b}", block) for name in given] for site, given in TRANSFORMERS.items()}


def _source(
    key: str, names: Names, there: Mapping[str, Array], spec: ViTSpec
) -> tuple[str, tuple[int, int], Callable[[Array], Array]]:
    """The array of the file that a released name is made of: its name, which part of how many, how to turn it."""
    site, turn, match = next((s, t, m) for pattern, s, t in SITES if (m := re.fullmatch(pattern, key)))
    numbers = match.groupdict()
    leaf = {"kernel": ".weight", "scale": ".weight", "bias": ".bias"}.get(numbers.get("leaf") or "", "")
    if leaf == ".bias":
        turn = head_bias if turn is heads else vector
    if site == "fc1" and spec.gated:
        site = "gated"
    listed = [_part(name, leaf) for name in names.get(site, ())]
    listed += [_part(name, "") for name in names.get(f"{site}{leaf}", ()) if leaf]
    listed = [(name.format(i=numbers.get("i")), part) for name, part in listed] or [(key, (0, 1))]
    name, part = next((found for found in listed if found[0] in there), listed[0])
    return name, part, lambda array: turn(array, spec, int(numbers.get("n") or 0))


def _part(name: str, leaf: str) -> tuple[str, tuple[int, int]]:
    """A name of the file, and which part of how many its rows are."""
    name, _, part = name.partition(":")
    first, _, of = part.partition("/")
    return name + leaf, (int(first or 0), int(of or 1))


def _cut(array: Array, which: int, of: int) -> Array:
    """A part of the rows."""
    if of == 1 or not array.shape or array.shape[0] % of:
        return array
    n = array.shape[0] // of
    return array.turned((n, *array.shape[1:]), lambda x: x[which * n : (which + 1) * n])


# An array of another rank than expected is left as it is: the comparison of shapes names it.
def vector(a: Array, spec: ViTSpec, place: int) -> Array:
    """As it is."""
    return a


def kernel(a: Array, spec: ViTSpec, place: int) -> Array:
    """[o, i, h, w] as [h, w, i, o]."""
    return a if len(a.shape) != 4 else a.turned([a.shape[j] for j in (2, 3, 1, 0)], lambda x: x.transpose(2, 3, 1, 0))


def linear(a: Array, spec: ViTSpec, place: int) -> Array:
    """[o, i] as [i, o]."""
    return a if len(a.shape) != 2 else a.turned(a.shape[::-1], np.transpose)


def heads(a: Array, spec: ViTSpec, place: int) -> Array:
    """[n * e, d] as [d, n, e]."""
    if len(a.shape) != 2 or a.shape[0] % spec.heads:
        return a
    shape = (a.shape[1], spec.heads, a.shape[0] // spec.heads)
    return a.turned(shape, lambda x: x.T.reshape(shape))


def head_bias(a: Array, spec: ViTSpec, place: int) -> Array:
    """[n * e] as [n, e]."""
    return a if len(a.shape) != 1 or a.shape[0] % spec.heads else a.reshaped((spec.heads, a.shape[0] // spec.heads))


def merge(a: Array, spec: ViTSpec, place: int) -> Array:
    """[d, n * e] as [n, e, d]."""
    if len(a.shape) != 2 or a.shape[1] % spec.heads:
        return a
    shape = (spec.heads, a.shape[1] // spec.heads, a.shape[0])
    return a.turned(shape, lambda x: x.T.reshape(shape))


def token(a: Array, spec: ViTSpec, place: int) -> Array:
    """One row [1, 1, d] of [..., d]."""
    if not a.shape or a.size < (place + 1) * a.shape[-1]:
        return a
    d = a.shape[-1]
    return a.turned((1, 1, d), lambda x: x.reshape(-1, d)[place].reshape(1, 1, d))


def positions(a: Array, spec: ViTSpec, place: int) -> Array:
    """[1, t, d], also of [t, d]."""
    return a.reshaped((1, *a.shape)) if len(a.shape) == 2 else a


_LEAF, _NORM = "(?P<leaf>kernel|bias)", "(?P<leaf>scale|bias)"
_BLOCK = r"Transformer/encoderblock_(?P<i>\d+)"
_ATTENTION, _MLP = f"{_BLOCK}/MultiHeadDotProductAttention_1", f"{_BLOCK}/MlpBlock_3"
# released name, site, how its array is turned
SITES: tuple[tuple[str, str, Turn], ...] = (
    (rf"embedding/{_LEAF}", "embed", kernel),
    (rf"embedding_norm/{_NORM}", "embed_norm", vector),
    (r"cls", "cls", token),
    (r"dist", "dist", token),
    (r"reg(?P<n>\d+)", "reg", token),
    (r"Transformer/posembed_input/pos_embedding", "pos", positions),
    (rf"Transformer/pre_norm/{_NORM}", "pre_norm", vector),
    (rf"{_BLOCK}/LayerNorm_0/{_NORM}", "ln1", vector),
    (rf"{_ATTENTION}/query/{_LEAF}", "q", heads),
    (rf"{_ATTENTION}/key/{_LEAF}", "k", heads),
    (rf"{_ATTENTION}/value/{_LEAF}", "v", heads),
    (rf"{_ATTENTION}/query_norm/{_NORM}", "q_norm", vector),
    (rf"{_ATTENTION}/key_norm/{_NORM}", "k_norm", vector),
    (rf"{_ATTENTION}/out/{_LEAF}", "out", merge),
    (rf"{_BLOCK}/LayerScale_1/scale", "ls1", vector),
    (rf"{_BLOCK}/LayerNorm_2/{_NORM}", "ln2", vector),
    (rf"{_MLP}/Gate/{_LEAF}", "gate", linear),
    (rf"{_MLP}/Dense_0/{_LEAF}", "fc1", linear),
    (rf"{_MLP}/Dense_1/{_LEAF}", "fc2", linear),
    (rf"{_BLOCK}/LayerScale_3/scale", "ls2", vector),
    (rf"Transformer/encoder_norm/{_NORM}", "norm", vector),
    (rf"{MAP}/probe", "probe", token),
    (rf"{MAP}/MultiHeadDotProductAttention_0/query/{_LEAF}", "map_q", heads),
    (rf"{MAP}/MultiHeadDotProductAttention_0/key/{_LEAF}", "map_k", heads),
    (rf"{MAP}/MultiHeadDotProductAttention_0/value/{_LEAF}", "map_v", heads),
    (rf"{MAP}/MultiHeadDotProductAttention_0/out/{_LEAF}", "map_out", merge),
    (rf"{MAP}/LayerNorm_0/{_NORM}", "map_ln", vector),
    (rf"{MAP}/MlpBlock_0/Dense_0/{_LEAF}", "map_fc1", linear),
    (rf"{MAP}/MlpBlock_0/Dense_1/{_LEAF}", "map_fc2", linear),
    (rf"head_norm/{_NORM}", "head_norm", vector),
    (rf"pre_logits/{_LEAF}", "pre_logits", linear),
    (rf"head/{_LEAF}", "head", linear),
    (rf"head_dist/{_LEAF}", "head_dist", linear),
)
