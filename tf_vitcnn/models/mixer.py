"""MLP-Mixer (Tolstikhin et al., 2021).

Axes: b batch, h w grid, t token, s hidden token, d channel.
"""

from typing import Any

import keras

from tf_vitcnn.models.make import Make, activation, add, check_patch, layer_norm
from tf_vitcnn.models.specs import MixerSpec

Out = dict[str, Any]


def mixer(
    spec: MixerSpec, size: tuple[int, int], classes: int, seed: int | None, no_skip: frozenset[int], name: str
) -> keras.Model:
    """The model from images [b, h, w, 3] to every sublayer."""
    make, out = Make(seed), dict[str, Any]()
    check_patch(size, spec.patch, name)
    images = keras.Input((*size, 3), name="images")
    x = out["stem/embed"] = make.embed("stem/embed", images, spec.width, spec.patch)  # [b, h, w, d]
    x = keras.layers.Reshape((-1, spec.width), name="stem.sequence")(x)  # [b, t, d]
    for i in range(spec.depth):
        x = block(x, out, f"block{i:02}", spec, make, keep=i not in no_skip)
    x = out["final/ln/out"] = layer_norm("final/ln/out", x)
    x = out["head/pooled"] = keras.layers.GlobalAveragePooling1D(name="head.pooled")(x)
    if classes:
        out["head/logits"] = make.dense("head/logits", x, classes)
    return keras.Model(images, out, name=name)


def block(x: Any, out: Out, blk: str, spec: MixerSpec, make: Make, keep: bool) -> Any:
    """The residual stream after mixing over tokens, then over channels, each behind a norm."""
    y = mix_tokens(x, out, blk, spec, make)
    x = out[f"{blk}/resid/mid"] = add(f"{blk}/resid/mid", x, y, keep)
    y = mix_channels(x, out, blk, spec, make)
    x = out[f"{blk}/resid/post"] = add(f"{blk}/resid/post", x, y, keep)
    return x


def mix_tokens(x: Any, out: Out, blk: str, spec: MixerSpec, make: Make) -> Any:
    """What each channel makes of its tokens; hidden layers have the channels first, as in the official code."""
    tokens = x.shape[1]
    x = out[f"{blk}/ln1/out"] = layer_norm(f"{blk}/ln1/out", x)
    x = out[f"{blk}/tokenmix/pre"] = make.mix(f"{blk}/tokenmix/pre", x, "btd,ts->bds", spec.tokens_mlp)
    x = out[f"{blk}/tokenmix/act"] = activation(f"{blk}/tokenmix/act", x, "tanh")
    x = out[f"{blk}/tokenmix/out"] = make.mix(f"{blk}/tokenmix/out", x, "bds,st->btd", tokens)
    return x


def mix_channels(x: Any, out: Out, blk: str, spec: MixerSpec, make: Make) -> Any:
    """What each token makes of its channels."""
    x = out[f"{blk}/ln2/out"] = layer_norm(f"{blk}/ln2/out", x)
    x = out[f"{blk}/chanmix/pre"] = make.dense(f"{blk}/chanmix/pre", x, spec.channels_mlp)
    x = out[f"{blk}/chanmix/act"] = activation(f"{blk}/chanmix/act", x, "tanh")
    x = out[f"{blk}/chanmix/out"] = make.dense(f"{blk}/chanmix/out", x, spec.width)
    return x
