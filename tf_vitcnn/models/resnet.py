"""BiT-ResNets (Kolesnikov et al., 2020; pre-activation) and the stem of hybrids (post-activation).

Both standardise the kernels of their convolutions and normalise groups of channels, but differ in epsilons, in
where norms stand and in padding: BiT pads with zeros by hand, hybrids use SAME.
"""

from typing import Any

import keras

from tf_vitcnn.models.make import Make, activation, add, group_norm
from tf_vitcnn.models.specs import HybridStem, ResNetSpec

Out = dict[str, Any]


def resnet(
    spec: ResNetSpec, size: tuple[int, int], classes: int, seed: int | None, no_skip: frozenset[int], name: str
) -> keras.Model:
    """The BiT model from images [b, h, w, 3] to every sublayer."""
    make, out = Make(seed), dict[str, Any]()
    images = keras.Input((*size, 3), name="images")
    x = keras.layers.ZeroPadding2D(3, name="stem.conv.pad")(images)
    x = out["stem/conv"] = make.std_conv("stem/conv", x, spec.channels, 7, strides=2)
    x = keras.layers.ZeroPadding2D(1, name="stem.pool.pad")(x)  # zeros, not -inf, though values are signed
    x = out["stem/pool"] = keras.layers.MaxPooling2D(3, 2, name="stem.pool")(x)
    index = 0
    for stage, units in enumerate(spec.units):
        for i in range(units):
            unit, stride = f"stage{stage + 1}/unit{i:02}", 2 if stage and not i else 1
            width = spec.channels * 2**stage
            x = pre_activation(x, out, unit, width, stride, i == 0, make, keep=index not in no_skip)
            index += 1
    x = out["final/norm/out"] = group_norm("final/norm/out", x, 1e-5)
    x = out["final/act/out"] = activation("final/act/out", x, "relu")
    x = out["head/pooled"] = keras.layers.GlobalAveragePooling2D(name="head.pooled")(x)
    if classes:
        out["head/logits"] = make.dense("head/logits", x, classes)
    return keras.Model(images, out, name=name)


def pre_activation(x: Any, out: Out, unit: str, width: int, stride: int, project: bool, make: Make, keep: bool) -> Any:
    """The residual stream after one of BiT's units; the projection reads the activated input."""
    skip = x
    x = out[f"{unit}/norm1/out"] = group_norm(f"{unit}/norm1/out", x, 1e-5)
    x = out[f"{unit}/act1/out"] = activation(f"{unit}/act1/out", x, "relu")
    if project and keep:
        skip = out[f"{unit}/skip/out"] = make.std_conv(f"{unit}/skip/out", x, 4 * width, 1, strides=stride)
    x = out[f"{unit}/conv1/out"] = make.std_conv(f"{unit}/conv1/out", x, width, 1)
    x = out[f"{unit}/norm2/out"] = group_norm(f"{unit}/norm2/out", x, 1e-5)
    x = out[f"{unit}/act2/out"] = activation(f"{unit}/act2/out", x, "relu")
    if stride == 1:
        x = out[f"{unit}/conv2/out"] = make.std_conv(f"{unit}/conv2/out", x, width, 3, padding="same")
    else:  # SAME would pad even sizes on one side only
        x = keras.layers.ZeroPadding2D(1, name=f"{unit}/conv2/pad".replace("/", "."))(x)
        x = out[f"{unit}/conv2/out"] = make.std_conv(f"{unit}/conv2/out", x, width, 3, strides=stride)
    x = out[f"{unit}/norm3/out"] = group_norm(f"{unit}/norm3/out", x, 1e-5)
    x = out[f"{unit}/act3/out"] = activation(f"{unit}/act3/out", x, "relu")
    x = out[f"{unit}/branch/out"] = make.std_conv(f"{unit}/branch/out", x, 4 * width, 1)
    x = out[f"{unit}/resid/post"] = add(f"{unit}/resid/post", skip, x, keep)
    return x


def hybrid_stem(x: Any, out: Out, spec: HybridStem, make: Make) -> Any:
    """The feature map that a hybrid cuts into patches."""
    x = out["stem/conv"] = _conv("stem/conv", x, 64 * spec.width_factor, 7, 2, make)
    x = out["stem/norm"] = group_norm("stem/norm", x, 1e-6)
    x = out["stem/act"] = activation("stem/act", x, "relu")
    x = out["stem/pool"] = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem.pool")(x)
    for stage, units in enumerate(spec.units):
        for i in range(units):
            stride, width = 2 if stage and not i else 1, 64 * spec.width_factor * 2**stage
            x = post_activation(x, out, f"stage{stage + 1}/unit{i:02}", width, stride, i == 0, make)
    return x


def post_activation(x: Any, out: Out, unit: str, width: int, stride: int, project: bool, make: Make) -> Any:
    """The residual stream after one of a hybrid's units; the projection reads the unit's input."""
    skip = x
    x = out[f"{unit}/conv1/out"] = _conv(f"{unit}/conv1/out", x, width, 1, 1, make)
    x = out[f"{unit}/norm1/out"] = group_norm(f"{unit}/norm1/out", x, 1e-6)
    x = out[f"{unit}/act1/out"] = activation(f"{unit}/act1/out", x, "relu")
    x = out[f"{unit}/conv2/out"] = _conv(f"{unit}/conv2/out", x, width, 3, stride, make)
    x = out[f"{unit}/norm2/out"] = group_norm(f"{unit}/norm2/out", x, 1e-6)
    x = out[f"{unit}/act2/out"] = activation(f"{unit}/act2/out", x, "relu")
    x = out[f"{unit}/conv3/out"] = _conv(f"{unit}/conv3/out", x, 4 * width, 1, 1, make)
    x = out[f"{unit}/branch/out"] = group_norm(f"{unit}/branch/out", x, 1e-6)
    if project:
        skip = _conv(f"{unit}/skip/conv", skip, 4 * width, 1, stride, make)
        skip = out[f"{unit}/skip/out"] = group_norm(f"{unit}/skip/out", skip, 1e-6)
    x = out[f"{unit}/resid/sum"] = add(f"{unit}/resid/sum", skip, x)
    x = out[f"{unit}/resid/post"] = activation(f"{unit}/resid/post", x, "relu")
    return x


def _conv(tap: str, x: Any, width: int, size: int, stride: int, make: Make) -> Any:
    """A hybrid's convolution."""
    return make.std_conv(tap, x, width, size, strides=stride, padding="same", epsilon=1e-5, inside=False)
