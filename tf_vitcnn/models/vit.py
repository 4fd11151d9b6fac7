"""Vision transformers: ViT (Dosovitskiy et al., 2021), DeiT (Touvron et al., 2021) and hybrids.

Axes: b batch, h w grid, t token, q k query and key token, n head, e head channel, d channel.
"""

from typing import Any

import keras

from tf_vitcnn.models.layers import Einsum, Make, Take, Tokens, activation, add, check_patch, layer_norm
from tf_vitcnn.models.resnet import hybrid_stem
from tf_vitcnn.models.specs import ViTSpec
from tf_vitcnn.taps import layer_name

Out = dict[str, Any]


def vit(
    spec: ViTSpec, size: tuple[int, int], classes: int, seed: int | None, no_skip: frozenset[int], name: str
) -> keras.Model:
    """The model from images [b, h, w, 3] to every sublayer."""
    make, out = Make(seed), dict[str, Any]()
    x = images = keras.Input((*size, 3), name="images")
    if spec.stem is None:
        check_patch(size, spec.patch, name)
    else:
        x = hybrid_stem(x, out, spec.stem, make)
        check_patch(x.shape[1:3], spec.patch, f"the embedding of {name}")
    x = out["stem/embed"] = make.embed("stem/embed", x, spec.width, spec.patch)  # [b, h, w, d]
    x = out["stem/tokens"] = Tokens(spec.extra, seed, name="stem.tokens")(x)
    for i in range(spec.depth):
        x = block(x, out, f"block{i:02}", spec, make, keep=i not in no_skip)
    x = out["final/ln/out"] = layer_norm("final/ln/out", x)
    head(x, out, spec, classes, make)
    return keras.Model(images, out, name=name)


def block(x: Any, out: Out, blk: str, spec: ViTSpec, make: Make, keep: bool) -> Any:
    """The residual stream after attention and MLP, each behind a norm."""
    y = attention(x, out, blk, spec, make)
    x = out[f"{blk}/resid/mid"] = add(f"{blk}/resid/mid", x, y, keep)
    y = mlp(x, out, blk, spec, make)
    x = out[f"{blk}/resid/post"] = add(f"{blk}/resid/post", x, y, keep)
    return x


def attention(x: Any, out: Out, blk: str, spec: ViTSpec, make: Make) -> Any:
    """What each token [b, t, d] gathers from the others."""
    x = out[f"{blk}/ln1/out"] = layer_norm(f"{blk}/ln1/out", x)
    q = out[f"{blk}/attn/q"] = make.split(f"{blk}/attn/q", x, spec.heads)  # [b, t, n, e]
    k = out[f"{blk}/attn/k"] = make.split(f"{blk}/attn/k", x, spec.heads)
    v = out[f"{blk}/attn/v"] = make.split(f"{blk}/attn/v", x, spec.heads)
    scores = Einsum("bqne,bkne->bnqk", scale=q.shape[-1] ** -0.5, name=layer_name(f"{blk}/attn/scores"))
    x = out[f"{blk}/attn/scores"] = scores([q, k])
    x = out[f"{blk}/attn/probs"] = keras.layers.Softmax(name=layer_name(f"{blk}/attn/probs"))(x)
    x = out[f"{blk}/attn/mixed"] = Einsum("bnqk,bkne->bqne", name=layer_name(f"{blk}/attn/mixed"))([x, v])
    x = out[f"{blk}/attn/out"] = make.merge(f"{blk}/attn/out", x, spec.width)
    return x


def mlp(x: Any, out: Out, blk: str, spec: ViTSpec, make: Make) -> Any:
    """What each token [b, t, d] makes of itself."""
    x = out[f"{blk}/ln2/out"] = layer_norm(f"{blk}/ln2/out", x)
    x = out[f"{blk}/mlp/pre"] = make.dense(f"{blk}/mlp/pre", x, spec.mlp)
    x = out[f"{blk}/mlp/act"] = activation(f"{blk}/mlp/act", x, spec.gelu)
    x = out[f"{blk}/mlp/out"] = make.dense(f"{blk}/mlp/out", x, spec.width)
    return x


def head(x: Any, out: Out, spec: ViTSpec, classes: int, make: Make) -> None:
    """Files the pooled token and the logits; a distilled DeiT has two of each, and answers with the mean of both."""
    tokens = x
    if spec.pool == "gap":
        x = out["head/pooled"] = keras.layers.GlobalAveragePooling1D(name="head.pooled")(tokens)
    else:
        x = out["head/pooled"] = Take(0, name="head.pooled")(tokens)
    if spec.distilled:
        dist = out["head/pooled_dist"] = Take(1, name="head.pooled_dist")(tokens)
    if spec.pre_logits:
        x = out["head/pre_logits"] = make.dense("head/pre_logits", x, spec.pre_logits, activation="tanh")
    if classes:
        out["head/logits"] = make.dense("head/logits", x, classes)
        if spec.distilled:
            out["head/logits_dist"] = make.dense("head/logits_dist", dist, classes)
