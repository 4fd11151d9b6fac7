"""What each architecture stores: for every weight of ours its name in the released files, and its shape.

One row per array; so a checkpoint is checked, and its parameters counted, without building a model. Released names:
ViT vision_transformer/vit_jax/models.py (before linen), BiT big_transfer, Mixer vit_jax/models_mixer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from tf_vitcnn.models.specs import MixerSpec, ResNetSpec, Spec, ViTSpec


class Row(NamedTuple):
    """One weight."""

    target: str  # `layer/weight` in our model
    key: str  # in the released files
    shape: tuple[int, ...]


Size = tuple[int, int]


def rows(spec: Spec, image_size: Size, classes: int) -> list[Row]:
    """Every weight of the architecture; `classes=0` leaves the head out."""
    if isinstance(spec, ResNetSpec):
        return list(_bit(spec, classes))
    if isinstance(spec, MixerSpec):
        return list(_mixer(spec, grid(spec, image_size), classes))
    return list(_vit(spec, grid(spec, image_size), classes))


def count(spec: Spec, image_size: Size, classes: int) -> int:
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


def _norm(target: str, key: str, width: int, names: tuple[str, str] = ("scale", "bias")) -> Iterator[Row]:
    yield Row(f"{target}/gamma", f"{key}/{names[0]}", (width,))
    yield Row(f"{target}/beta", f"{key}/{names[1]}", (width,))


def _dense(target: str, key: str, *shape: int) -> Iterator[Row]:
    yield Row(f"{target}/kernel", f"{key}/kernel", shape)
    yield Row(f"{target}/bias", f"{key}/bias", shape[-1:])


def _vit(spec: ViTSpec, tokens: Size, classes: int) -> Iterator[Row]:
    d, channels = spec.width, 3
    if spec.stem is not None:
        yield from _hybrid_stem(spec)
        widths = 64 * spec.stem.width_factor
        channels = widths * 2 ** (len(spec.stem.units) - 1) * 4 if spec.stem.units else widths
    yield from _dense("stem.embed", "embedding", spec.patch, spec.patch, channels, d)
    for token in spec.extra:
        yield Row(f"stem.tokens/{token}", token, (1, 1, d))
    length = len(spec.extra) + tokens[0] * tokens[1]
    yield Row("stem.tokens/pos_embedding", "Transformer/posembed_input/pos_embedding", (1, length, d))
    for i in range(spec.depth):
        yield from _encoder_block(spec, f"block{i:02d}", f"Transformer/encoderblock_{i}")
    yield from _norm("final.ln.out", "Transformer/encoder_norm", d)
    if spec.pre_logits:
        yield from _dense("head.pre_logits", "pre_logits", d, spec.pre_logits)
    if classes:
        yield from _dense("head.logits", "head", spec.pre_logits or d, classes)
        if spec.distilled:
            yield from _dense("head.logits_dist", "head_dist", d, classes)


def _encoder_block(spec: ViTSpec, target: str, key: str) -> Iterator[Row]:
    d, n, e = spec.width, spec.heads, spec.width // spec.heads
    attention = f"{key}/MultiHeadDotProductAttention_1"
    yield from _norm(f"{target}.ln1.out", f"{key}/LayerNorm_0", d)
    for site, name in (("q", "query"), ("k", "key"), ("v", "value")):
        yield Row(f"{target}.attn.{site}/kernel", f"{attention}/{name}/kernel", (d, n, e))
        yield Row(f"{target}.attn.{site}/bias", f"{attention}/{name}/bias", (n, e))
    yield from _dense(f"{target}.attn.out", f"{attention}/out", n, e, d)
    yield from _norm(f"{target}.ln2.out", f"{key}/LayerNorm_2", d)
    yield from _dense(f"{target}.mlp.pre", f"{key}/MlpBlock_3/Dense_0", d, spec.mlp)
    yield from _dense(f"{target}.mlp.out", f"{key}/MlpBlock_3/Dense_1", spec.mlp, d)


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
