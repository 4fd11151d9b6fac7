"""ConvNeXt (Liu et al., 2022) and ConvNeXt V2 (Woo et al., 2023).

Axes: b batch, h w grid, d channel. Norms are over the channels of each place.
"""

from typing import Any

import keras

from tf_vitcnn.models.layers import LayerScale
from tf_vitcnn.models.make import Make, activation, add, check_patch, layer_norm
from tf_vitcnn.models.norms import ResponseNorm
from tf_vitcnn.models.specs import ConvNeXtSpec
from tf_vitcnn.taps import layer_name

Out = dict[str, Any]


def convnext(
    spec: ConvNeXtSpec, size: tuple[int, int], classes: int, seed: int | None, no_skip: frozenset[int], name: str
) -> keras.Model:
    """The model from images [b, h, w, 3] to every sublayer."""
    make, out = Make(seed), dict[str, Any]()
    check_patch(size, spec.patch, name)
    x = images = keras.Input((*size, 3), name="images")
    x = out["stem/conv"] = make.embed("stem/conv", x, spec.widths[0], spec.patch)
    x = out["stem/norm"] = layer_norm("stem/norm", x, spec.epsilon)
    index = 0
    for stage, (units, width) in enumerate(zip(spec.units, spec.widths, strict=True), 1):
        if stage > 1:
            x = out[f"stage{stage}/down/norm"] = layer_norm(f"stage{stage}/down/norm", x, spec.epsilon)
            x = out[f"stage{stage}/down/conv"] = make.embed(f"stage{stage}/down/conv", x, width, 2)
        for i in range(units):
            x = unit(x, out, f"stage{stage}/unit{i:02}", spec, make, keep=index not in no_skip)
            index += 1
    head(x, out, spec, classes, make)
    return keras.Model(images, out, name=name)


def unit(x: Any, out: Out, at: str, spec: ConvNeXtSpec, make: Make, keep: bool) -> Any:
    """The residual stream after one convolution of each channel alone and an MLP at each place."""
    skip, width = x, x.shape[-1]
    kernel = make.kernel(f"{at}/conv1/out", spec.kernel**2)
    alone = keras.layers.DepthwiseConv2D(
        spec.kernel, padding="same", depthwise_initializer=kernel, name=layer_name(f"{at}/conv1/out")
    )
    x = out[f"{at}/conv1/out"] = alone(x)
    x = out[f"{at}/norm1/out"] = layer_norm(f"{at}/norm1/out", x, spec.epsilon)
    x = out[f"{at}/mlp/pre"] = make.dense(f"{at}/mlp/pre", x, spec.expansion * width)
    x = out[f"{at}/mlp/act"] = activation(f"{at}/mlp/act", x, spec.gelu)
    if spec.response_norm:
        x = out[f"{at}/mlp/norm"] = ResponseNorm(name=layer_name(f"{at}/mlp/norm"))(x)
    x = out[f"{at}/mlp/out"] = make.dense(f"{at}/mlp/out", x, width)
    if spec.layer_scale:
        x = out[f"{at}/ls1/out"] = LayerScale(name=layer_name(f"{at}/ls1/out"))(x)
    x = out[f"{at}/resid/post"] = add(f"{at}/resid/post", skip, x, keep)
    return x


def head(x: Any, out: Out, spec: ConvNeXtSpec, classes: int, make: Make) -> None:
    """Files the mean over places and the logits."""
    epsilon = spec.head_epsilon or spec.epsilon
    if spec.final_norm == "tokens":
        x = out["final/norm/out"] = layer_norm("final/norm/out", x, epsilon)
    x = out["head/pooled"] = keras.layers.GlobalAveragePooling2D(name="head.pooled")(x)
    if spec.final_norm == "pooled":
        x = out["head/norm"] = layer_norm("head/norm", x, epsilon)
    if classes:
        out["head/logits"] = make.dense("head/logits", x, classes)
