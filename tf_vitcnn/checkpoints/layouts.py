"""What each architecture stores: for every weight of ours its name in the released files, and its shape.

One row per array; so a checkpoint is checked, and its parameters counted, without building a model. Released names:
ViT vision_transformer/vit_jax/models.py (before linen), BiT big_transfer, Mixer vit_jax/models_mixer.py. What no
official .npz has (LayerScale, registers, gates) bears a name of the same kind: other formats are told in these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from tf_vitcnn.checkpoints.conv_layouts import conv_rows
from tf_vitcnn.checkpoints.row import Row
from tf_vitcnn.models.specs import AnySpec, ConvSpec, MixerSpec, ResNetSpec, ViTSpec

Size = tuple[int, int]
QKV = (("q", "query"), ("k", "key"), ("v", "value"))
MAP = "MAPHead_0"


def rows(spec: AnySpec, image_size: Size, classes: int) -> list[Row]:
    """Every weight of the architecture; `classes=0` leaves the head out."""
    if isinstance(spec, ResNetSpec):
        return list(_bit(spec, classes))
    if isinstance(spec, ConvSpec):
        return conv_rows(spec, classes)
    if isinstance(spec, MixerSpec):
        return list(_mixer(spec, grid(spec, image_size), classes))
    return list(_vit(spec, grid(spec, image_size), classes))


def count(spec: AnySpec, image_size: Size, classes: int) -> int:
    """The number of parameters."""
    return sum(prod(row.shape) for row in rows(spec, image_size, classes))


def stride(spec: ViTSpec | MixerSpec) -> int:
    """Pixels to a token's side."""
    if isinstance(spec, MixerSpec) or spec.stem is None:
        return spec.patch
    # the root halves twice, each later stage once
    return spec.patch * 4 * 2 ** max(0, len(spec.stem.units) - 1)


def grid(spec: ViTSpec | MixerSpec, image_size: Size) -> Size:
    """Tokens by rows and columns; a hybrid's stem pads, so it rounds up before the patches."""
    inner = stride(spec) // spec.patch
    rows_, cols = (-(-side // inner) // spec.patch for side in image_size)
    return rows_, cols


def _norm(
    target: str, key: str, width: int, names: tuple[str, str] = ("scale", "bias"), bias: bool = True
) -> Iterator[Row]:
    yield Row(f"{target}/gamma", f"{key}/{names[0]}", (width,))
    if bias:
        yield Row(f"{target}/beta", f"{key}/{names[1]}", (width,))


def _dense(target: str, key: str, *shape: int, bias: bool = True) -> Iterator[Row]:
    yield Row(f"{target}/kernel", f"{key}/kernel", shape)
    if bias:
        yield Row(f"{target}/bias", f"{key}/bias", shape[-1:])


def _vit(spec: ViTSpec, tokens: Size, classes: int) -> Iterator[Row]:
    d, channels = spec.width, 3
    if spec.stem is not None:
        yield from _hybrid_stem(spec)
        widths = 64 * spec.stem.width_factor
        channels = widths * 2 ** (len(spec.stem.units) - 1) * 4 if spec.stem.units else widths
    yield from _dense("stem.embed", "embedding", spec.patch, spec.patch, channels, d, bias=spec.has_bias("embed"))
    if spec.embed_norm:
        yield from _spec_norm(spec, "stem.embed_norm", "embedding_norm")
    for token in spec.extra:
        yield Row(f"stem.tokens/{token}", token, (1, 1, d))
    if spec.added:
        length = spec.placed + tokens[0] * tokens[1]
        yield Row("stem.tokens/pos_embedding", "Transformer/posembed_input/pos_embedding", (1, length, d))
    if spec.pre_norm:
        yield from _spec_norm(spec, "stem.ln", "Transformer/pre_norm")
    for i in range(spec.depth):
        yield from _encoder_block(spec, f"block{i:02d}", f"Transformer/encoderblock_{i}")
    if spec.final_norm == "tokens":
        yield from _spec_norm(spec, "final.ln.out", "Transformer/encoder_norm")
    yield from _vit_head(spec, classes)


def _vit_head(spec: ViTSpec, classes: int) -> Iterator[Row]:
    d = spec.width
    if spec.pool == "map":
        yield Row("head.query/query", "MAPHead_0/probe", (1, 1, d))
        names = (("query", "query"), ("k", "key"), ("v", "value"))
        yield from _attention(spec, "head.attn", f"{MAP}/MultiHeadDotProductAttention_0", names, all_biases=True)
        yield from _spec_norm(spec, "head.ln.out", f"{MAP}/LayerNorm_0")
        yield from _dense("head.mlp.pre", f"{MAP}/MlpBlock_0/Dense_0", d, spec.mlp)
        yield from _dense("head.mlp.out", f"{MAP}/MlpBlock_0/Dense_1", spec.mlp, d)
    if spec.final_norm == "pooled":
        yield from _spec_norm(spec, "head.norm", "head_norm")
    if spec.pre_logits:
        yield from _dense("head.pre_logits", "pre_logits", d, spec.pre_logits)
    if classes:
        width = spec.pre_logits or (2 * d if spec.pool == "cls+gap" else d)
        yield from _dense("head.logits", "head", width, classes, bias=spec.has_bias("head"))
        if spec.distilled:
            yield from _dense("head.logits_dist", "head_dist", d, classes)


def _spec_norm(spec: ViTSpec, target: str, key: str, width: int = 0) -> Iterator[Row]:
    """A norm over the channels: one over their root mean square has no shift."""
    yield from _norm(target, key, width or spec.width, bias=spec.norm == "layer" and spec.has_bias("norm"))


def _attention(
    spec: ViTSpec, target: str, key: str, names: tuple[tuple[str, str], ...] = QKV, all_biases: bool = False
) -> Iterator[Row]:
    d, n, e = spec.width, spec.heads, spec.width // spec.heads
    for site, name in names:
        yield Row(f"{target}.{site}/kernel", f"{key}/{name}/kernel", (d, n, e))
        if all_biases or spec.has_bias(site):
            yield Row(f"{target}.{site}/bias", f"{key}/{name}/bias", (n, e))
    yield from _dense(f"{target}.out", f"{key}/out", n, e, d, bias=all_biases or spec.has_bias("out"))


def _encoder_block(spec: ViTSpec, target: str, key: str) -> Iterator[Row]:
    d, attention, mlp = spec.width, f"{key}/MultiHeadDotProductAttention_1", f"{key}/MlpBlock_3"
    yield from _spec_norm(spec, f"{target}.ln1.out", f"{key}/LayerNorm_0")
    yield from _attention(spec, f"{target}.attn", attention)
    if spec.qk_norm:
        yield from _spec_norm(spec, f"{target}.attn.q_norm", f"{attention}/query_norm", d // spec.heads)
        yield from _spec_norm(spec, f"{target}.attn.k_norm", f"{attention}/key_norm", d // spec.heads)
    if spec.layer_scale:
        yield Row(f"{target}.ls1.out/gamma", f"{key}/LayerScale_1/scale", (d,))
    yield from _spec_norm(spec, f"{target}.ln2.out", f"{key}/LayerNorm_2")
    if spec.gated:
        yield from _dense(f"{target}.mlp.gate", f"{mlp}/Gate", d, spec.mlp, bias=spec.has_bias("mlp"))
    yield from _dense(f"{target}.mlp.pre", f"{mlp}/Dense_0", d, spec.mlp, bias=spec.has_bias("mlp"))
    yield from _dense(f"{target}.mlp.out", f"{mlp}/Dense_1", spec.mlp, d, bias=spec.has_bias("mlp"))
    if spec.layer_scale:
        yield Row(f"{target}.ls2.out/gamma", f"{key}/LayerScale_3/scale", (d,))


def _hybrid_stem(spec: ViTSpec) -> Iterator[Row]:
    assert spec.stem is not None
    width = 64 * spec.stem.width_factor
    yield Row("stem.conv/kernel", "conv_root/kernel", (7, 7, 3, width))
    yield from _norm("stem.norm", "gn_root", width)
    channels = width
    for stage, units in enumerate(spec.stem.units, 1):
        f = width * 2 ** (stage - 1)
        for unit in range(units):
            target, key = f"stage{stage}.unit{unit:02d}", f"block{stage}/unit{unit + 1}"
            if unit == 0:
                yield Row(f"{target}.skip.conv/kernel", f"{key}/conv_proj/kernel", (1, 1, channels, 4 * f))
                yield from _norm(f"{target}.skip.out", f"{key}/gn_proj", 4 * f)
            yield Row(f"{target}.conv1.out/kernel", f"{key}/conv1/kernel", (1, 1, channels, f))
            yield from _norm(f"{target}.norm1.out", f"{key}/gn1", f)
            yield Row(f"{target}.conv2.out/kernel", f"{key}/conv2/kernel", (3, 3, f, f))
            yield from _norm(f"{target}.norm2.out", f"{key}/gn2", f)
            yield Row(f"{target}.conv3.out/kernel", f"{key}/conv3/kernel", (1, 1, f, 4 * f))
            yield from _norm(f"{target}.branch.out", f"{key}/gn3", 4 * f)
            channels = 4 * f


def _bit(spec: ResNetSpec, classes: int) -> Iterator[Row]:
    width, affine = spec.channels, ("gamma", "beta")
    yield Row("stem.conv/kernel", "resnet/root_block/standardized_conv2d/kernel", (7, 7, 3, width))
    channels = width
    for stage, units in enumerate(spec.units, 1):
        f = width * 2 ** (stage - 1)
        for unit in range(units):
            target, key = f"stage{stage}.unit{unit:02d}", f"resnet/block{stage}/unit{unit + 1:02d}"
            yield from _norm(f"{target}.norm1.out", f"{key}/a/group_norm", channels, affine)
            if unit == 0:
                name = f"{key}/a/proj/standardized_conv2d/kernel"
                yield Row(f"{target}.skip.out/kernel", name, (1, 1, channels, 4 * f))
            yield Row(f"{target}.conv1.out/kernel", f"{key}/a/standardized_conv2d/kernel", (1, 1, channels, f))
            yield from _norm(f"{target}.norm2.out", f"{key}/b/group_norm", f, affine)
            yield Row(f"{target}.conv2.out/kernel", f"{key}/b/standardized_conv2d/kernel", (3, 3, f, f))
            yield from _norm(f"{target}.norm3.out", f"{key}/c/group_norm", f, affine)
            yield Row(f"{target}.branch.out/kernel", f"{key}/c/standardized_conv2d/kernel", (1, 1, f, 4 * f))
            channels = 4 * f
    yield from _norm("final.norm.out", "resnet/group_norm", channels, affine)
    if classes:
        yield from _dense("head.logits", "resnet/head/conv2d", channels, classes)


def _mixer(spec: MixerSpec, tokens: Size, classes: int) -> Iterator[Row]:
    d, length = spec.width, tokens[0] * tokens[1]
    yield from _dense("stem.embed", "stem", spec.patch, spec.patch, 3, d)
    for i in range(spec.depth):
        target, key = f"block{i:02d}", f"MixerBlock_{i}"
        yield from _norm(f"{target}.ln1.out", f"{key}/LayerNorm_0", d)
        yield from _dense(f"{target}.tokenmix.pre", f"{key}/token_mixing/Dense_0", length, spec.tokens_mlp)
        yield from _dense(f"{target}.tokenmix.out", f"{key}/token_mixing/Dense_1", spec.tokens_mlp, length)
        yield from _norm(f"{target}.ln2.out", f"{key}/LayerNorm_1", d)
        yield from _dense(f"{target}.chanmix.pre", f"{key}/channel_mixing/Dense_0", d, spec.channels_mlp)
        yield from _dense(f"{target}.chanmix.out", f"{key}/channel_mixing/Dense_1", spec.channels_mlp, d)
    yield from _norm("final.ln.out", "pre_head_layer_norm", d)
    if classes:
        yield from _dense("head.logits", "head", d, classes)
