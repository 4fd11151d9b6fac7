"""Vision transformers: ViT (Dosovitskiy et al., 2021), DeiT (Touvron et al., 2021), hybrids, and what came after them.

What DINOv2 and 3, CLIP, SigLIP, AIMv2 and others do otherwise stands as options in `ViTSpec`.
Axes: b batch, h w grid, t token, q k query and key token, n head, e head channel, d channel.
"""

from dataclasses import replace
from typing import Any

import keras

from tf_vitcnn.models.layers import Einsum, LayerScale, Query, Rotary, Take, Tokens
from tf_vitcnn.models.make import Make, activation, add, check_patch, layer_norm
from tf_vitcnn.models.resnet import hybrid_stem
from tf_vitcnn.models.specs import ViTSpec
from tf_vitcnn.taps import layer_name

Out = dict[str, Any]
Grid = tuple[int, int]


def vit(
    spec: ViTSpec, size: tuple[int, int], classes: int, seed: int | None, no_skip: frozenset[int], name: str
) -> keras.Model:
    """The model from images [b, h, w, 3] to every sublayer."""
    make, out = Make(seed), dict[str, Any]()
    images = keras.Input((*size, 3), name="images")
    x, grid = stem(images, out, spec, make, name)
    for i in range(spec.depth):
        x = block(x, out, f"block{i:02}", spec, grid, make, keep=i not in no_skip)
    if spec.final_norm == "tokens":
        x = out["final/ln/out"] = norm("final/ln/out", x, spec)
    head(x, out, spec, classes, make)
    return keras.Model(images, out, name=name)


def stem(x: Any, out: Out, spec: ViTSpec, make: Make, name: str) -> tuple[Any, Grid]:
    """The first tokens [b, t, d], and rows and columns of those that have a place."""
    if spec.stem is None:
        check_patch(x.shape[1:3], spec.patch, name)
    else:
        x = hybrid_stem(x, out, spec.stem, make)
        check_patch(x.shape[1:3], spec.patch, f"the embedding of {name}")
    x = out["stem/embed"] = make.embed("stem/embed", x, spec.width, spec.patch, spec.has_bias("embed"))  # [b, h, w, d]
    grid = x.shape[1], x.shape[2]
    if spec.embed_norm:
        x = out["stem/embed_norm"] = norm("stem/embed_norm", x, spec)
    x = out["stem/tokens"] = Tokens(spec.extra, make.seed, spec.placed, spec.added, name="stem.tokens")(x)
    if spec.pre_norm:
        x = out["stem/ln"] = norm("stem/ln", x, spec)
    return x, grid


def block(x: Any, out: Out, blk: str, spec: ViTSpec, grid: Grid, make: Make, keep: bool) -> Any:
    """The residual stream after attention and MLP, each behind a norm."""
    y = out[f"{blk}/ln1/out"] = norm(f"{blk}/ln1/out", x, spec)
    y = attention(y, y, out, f"{blk}/attn", spec, grid, make)
    if spec.layer_scale:
        y = out[f"{blk}/ls1/out"] = LayerScale(name=layer_name(f"{blk}/ls1/out"))(y)
    x = out[f"{blk}/resid/mid"] = add(f"{blk}/resid/mid", x, y, keep)
    y = out[f"{blk}/ln2/out"] = norm(f"{blk}/ln2/out", x, spec)
    y = mlp(y, out, f"{blk}/mlp", spec, make, gated=spec.gated)
    if spec.layer_scale:
        y = out[f"{blk}/ls2/out"] = LayerScale(name=layer_name(f"{blk}/ls2/out"))(y)
    x = out[f"{blk}/resid/post"] = add(f"{blk}/resid/post", x, y, keep)
    return x


def attention(x: Any, keys: Any, out: Out, at: str, spec: ViTSpec, grid: Grid, make: Make) -> Any:
    """What each token [b, q, d] gathers from others [b, k, d]."""
    q = out[f"{at}/q"] = make.split(f"{at}/q", x, spec.heads, spec.has_bias("q"))  # [b, t, n, e]
    k = out[f"{at}/k"] = make.split(f"{at}/k", keys, spec.heads, spec.has_bias("k"))
    v = out[f"{at}/v"] = make.split(f"{at}/v", keys, spec.heads, spec.has_bias("v"))
    if spec.qk_norm:
        q = out[f"{at}/q_norm"] = norm(f"{at}/q_norm", q, spec)
        k = out[f"{at}/k_norm"] = norm(f"{at}/k_norm", k, spec)
    if spec.positions == "rotary":
        q = out[f"{at}/q_rot"] = Rotary(grid, name=layer_name(f"{at}/q_rot"))(q)
        k = out[f"{at}/k_rot"] = Rotary(grid, name=layer_name(f"{at}/k_rot"))(k)
    return mixed(q, k, v, out, at, spec, make)


def mixed(q: Any, k: Any, v: Any, out: Out, at: str, spec: ViTSpec, make: Make) -> Any:
    """Values [b, k, n, e] added up for each query [b, q, n, e] by its softmax over keys, brought back to the width."""
    scores = Einsum("bqne,bkne->bnqk", scale=q.shape[-1] ** -0.5, name=layer_name(f"{at}/scores"))
    x = out[f"{at}/scores"] = scores([q, k])
    x = out[f"{at}/probs"] = keras.layers.Softmax(name=layer_name(f"{at}/probs"))(x)
    x = out[f"{at}/mixed"] = Einsum("bnqk,bkne->bqne", name=layer_name(f"{at}/mixed"))([x, v])
    x = out[f"{at}/out"] = make.merge(f"{at}/out", x, spec.width, spec.has_bias("out"))
    return x


def mlp(x: Any, out: Out, at: str, spec: ViTSpec, make: Make, gated: bool = False) -> Any:
    """What each token [b, t, d] makes of itself."""
    bias = spec.has_bias("mlp")
    gate = None
    if gated:
        gate = out[f"{at}/gate"] = make.dense(f"{at}/gate", x, spec.mlp, use_bias=bias)
    x = out[f"{at}/pre"] = make.dense(f"{at}/pre", x, spec.mlp, use_bias=bias)
    if gate is None:
        x = out[f"{at}/act"] = activation(f"{at}/act", x, spec.gelu)
    else:
        gate = activation(f"{at}/gate/act", gate, spec.gelu)
        x = out[f"{at}/act"] = keras.layers.Multiply(name=layer_name(f"{at}/act"))([gate, x])
    x = out[f"{at}/out"] = make.dense(f"{at}/out", x, spec.width, use_bias=bias)
    return x


def norm(tap: str, x: Any, spec: ViTSpec) -> Any:
    """The spec's norm over the last axis."""
    return layer_norm(tap, x, spec.epsilon, spec.norm, spec.has_bias("norm"))


def head(x: Any, out: Out, spec: ViTSpec, classes: int, make: Make) -> None:
    """Files the pooled token and the logits; a distilled DeiT has two of each, and answers with the mean of both."""
    tokens = x
    x = pooled(x, out, spec, make)
    out["head/pooled"] = x
    if spec.distilled:
        dist = out["head/pooled_dist"] = Take(1, name="head.pooled_dist")(tokens)
    if spec.final_norm == "pooled":
        x = out["head/norm"] = norm("head/norm", x, spec)
    if spec.pre_logits:
        x = out["head/pre_logits"] = make.dense("head/pre_logits", x, spec.pre_logits, activation="tanh")
    if classes:
        out["head/logits"] = make.dense("head/logits", x, classes, use_bias=spec.has_bias("head"))
        if spec.distilled:
            out["head/logits_dist"] = make.dense("head/logits_dist", dist, classes)


def pooled(x: Any, out: Out, spec: ViTSpec, make: Make) -> Any:
    """One vector [b, d] of all tokens [b, t, d]."""
    if spec.pool == "cls":
        return Take(0, name="head.pooled")(x)
    cls = Take(0, name="head.cls")(x) if spec.pool == "cls+gap" else None
    if spec.extra and not spec.pool_extra:
        x = keras.layers.Cropping1D((len(spec.extra), 0), name="head.grid")(x)
    if spec.pool == "map":
        return attended(x, out, spec, make)
    if cls is None:
        return keras.layers.GlobalAveragePooling1D(name="head.pooled")(x)
    mean = keras.layers.GlobalAveragePooling1D(name="head.mean")(x)
    return keras.layers.Concatenate(name="head.pooled")([cls, mean])


def attended(x: Any, out: Out, spec: ViTSpec, make: Make) -> Any:
    """What one learnt query gathers from all tokens, and an MLP on top of it (SigLIP's head)."""
    spec = replace(spec, no_bias=tuple(site for site in spec.no_bias if site == "norm"))  # the blocks' own
    # the query is the same for every image: no tap
    q = make.split("head/attn/query", Query(make.seed, name="head.query")(x), spec.heads)
    k = out["head/attn/k"] = make.split("head/attn/k", x, spec.heads)
    v = out["head/attn/v"] = make.split("head/attn/v", x, spec.heads)
    x = mixed(q, k, v, out, "head/attn", spec, make)
    y = out["head/ln/out"] = norm("head/ln/out", x, spec)
    y = mlp(y, out, "head/mlp", spec, make)
    x = keras.layers.Add(name="head.attended")([x, y])
    return Take(0, name="head.pooled")(x)
