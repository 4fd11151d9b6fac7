"""Openers for keras-hub's vision encoders: the sublayers of our own ViT, under its names.

keras-hub is found by name and never imported here. What differs from our ViT: GELU is exact in most of them; DINOv2
scales each branch before it joins the residual stream, so `attn/out` and `mlp/out` come after the scale (before it:
`attn/proj`, `mlp/proj`); SigLIP has no class token, and pools by attention (left closed).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from tf_vitcnn.surgery.attention import At, multi_head, opener


@opener("keras_hub.ViTEncoder")
@opener("keras_hub.DeiTEncoder")
def encoder(at: At, layer: Any, x: Any, **options: Any) -> Any:
    """Pre-norm blocks, then a norm."""
    if any(value for value in options.values()):
        return None  # masks, or asked for every hidden state
    for i, block in enumerate(layer.encoder_layers):
        x = _block(at.top(f"block{i:02}"), x, block.layer_norm_1, block.mha, block.layer_norm_2, *_mlp(block))
    return at.top("final")("ln/out", layer.layer_norm, x)


def _mlp(block: Any) -> tuple[Any, Any]:
    """The two Dense layers of a ViT's or a DeiT's block."""
    if hasattr(block, "output_layer"):
        return block.mlp.dense, block.output_layer.dense
    return block.mlp.dense_1, block.mlp.dense_2


def _block(at: At, x: Any, norm1: Any, attention: Any, norm2: Any, dense1: Any, dense2: Any) -> Any:
    """The residual stream after attention and MLP, each behind a norm."""
    y = at("ln1/out", norm1, x)
    x = at.add("resid/mid", x, at("attn", attention, y, y))
    y = at.dense("mlp/pre", "mlp/act", dense1, at("ln2/out", norm2, x))
    x = at.rewired.stream = at.add("resid/post", x, at("mlp/out", dense2, y))
    return x


@opener("keras_hub.SigLIPEncoderLayer")
def siglip_block(at: At, layer: Any, x: Any, **options: Any) -> Any:
    """One pre-norm block; SigLIP's encoder is a row of them."""
    number = re.search(r"(\d+)$", layer.name)
    if number is None or layer.use_causal_mask:
        return None
    at = at.top(f"block{int(number[1]):02}")
    return _block(at, x, layer.layer_norm1, layer.self_attn, layer.layer_norm2, layer.mlp.fc1, layer.mlp.fc2)


@opener("keras_hub.DINOV2Encoder")
def dinov2(at: At, layer: Any, x: Any, **options: Any) -> Any:
    """Pre-norm blocks whose branches are scaled; also the stream after each, for feature pyramids."""
    stages = {}
    for i, block in enumerate(layer.layers):
        x = stages[f"stage{i + 1}"] = _scaled_block(at.top(f"block{i:02}"), block, x)
    at.rewired.stream = x
    return x, stages


def _scaled_block(at: At, block: Any, x: Any) -> Any:
    y = at("ln1/out", block.norm1, x)
    y = multi_head(replace(at, renamed={"attn/out": "attn/proj"}), block.attention.attention, y, y)
    x = at.add("resid/mid", x, at("attn/out", block.layer_scale1, y))
    y = at("ln2/out", block.norm2, x)
    if block.use_swiglu_ffn:
        y = at("mlp/act", SwiGLU(dtype=block.dtype_policy), at("mlp/pre", block.mlp.weights_in, y))
        y = at("mlp/proj", block.mlp.weights_out, y)
    else:
        y = at("mlp/proj", block.mlp.fc2, at.dense("mlp/pre", "mlp/act", block.mlp.fc1, y))
    return at.add("resid/post", x, at("mlp/out", block.layer_scale2, y))


@keras.saving.register_keras_serializable("tf_vitcnn")
class SwiGLU(keras.layers.Layer):
    """silu(a) b of the halves a, b of the channels."""

    def call(self, x: Any) -> Any:
        """Half as many channels."""
        a, b = ops.split(x, 2, axis=-1)
        return ops.silu(a) * b

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; Keras wants it said where a dtype policy is an argument."""
        return super().get_config()


@opener("keras_hub.ViTPatchingAndEmbedding")
@opener("keras_hub.DeiTEmbeddings")
@opener("keras_hub.SigLIPVisionEmbedding")
@opener("keras_hub.DINOV2Embedding")
def embedding(at: At, layer: Any, images: Any, **options: Any) -> Any:
    """The grid of patches, then the sequence of tokens with their positions."""
    if layer.data_format != "channels_last" or any(value is not None for value in options.values()):
        return None
    at = at.top("stem")
    patches = layer.patch_embedding if hasattr(layer, "patch_embedding") else layer.patch_embeddings.projection
    names = ("class_token", "cls_token", "distillation_token")
    extra = [getattr(layer, name) for name in names if hasattr(layer, name)]
    positions = getattr(layer, "interpolated_position_embeddings", None)
    if positions is None:
        positions = getattr(layer.position_embedding, "embeddings", layer.position_embedding)
    tokens = Sequence(dtype=layer.dtype_policy)
    tokens.own(extra, positions, getattr(layer, "register_tokens", None))
    return at("tokens", tokens, at("embed", patches, images))


@keras.saving.register_keras_serializable("tf_vitcnn")
class Sequence(keras.layers.Layer):
    """The tokens [b, t, d] of a grid [b, h, w, d]: extra tokens first, plus positions; registers after the first.

    Its weights are another layer's (`own`), in the shapes that layer gave them.
    """

    def __init__(self, shapes: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shapes = shapes

    def own(self, extra: list[Any], positions: Any, registers: Any) -> None:
        """Takes the weights."""
        self.extra, self.positions, self.registers = extra, positions, registers
        self.shapes = {
            "extra": [tuple(token.shape) for token in extra],
            "positions": tuple(positions.shape),
            "registers": None if registers is None else tuple(registers.shape),
        }

    def build(self, shape: Any) -> None:
        """Adds weights when it came from a file."""
        if hasattr(self, "positions") or self.shapes is None:
            return
        self.extra = [self.add_weight(shape=size, name=f"extra{i}") for i, size in enumerate(self.shapes["extra"])]
        self.positions = self.add_weight(shape=self.shapes["positions"], name="positions")
        size = self.shapes["registers"]
        self.registers = None if size is None else self.add_weight(shape=size, name="registers")

    def call(self, x: Any) -> Any:
        """Flattens the grid row by row, then adds what there is."""
        _, h, w, d = x.shape
        x = ops.reshape(x, (-1, h * w, d))
        batch = ops.shape(x)[0]
        x = ops.concatenate([*(ops.tile(token, (batch, 1, 1)) for token in self.extra), x], axis=1)
        x = x + ops.reshape(self.positions, (1, -1, d))
        if self.registers is None:
            return x
        return ops.concatenate([x[:, :1], ops.tile(self.registers, (batch, 1, 1)), x[:, 1:]], axis=1)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "shapes": self.shapes}
