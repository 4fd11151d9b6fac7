"""ResNets with batch norms as torchvision and timm have them (He et al., 2015; ResNeXt, wide and ResNet-D as options).

Post-activation: convolution, norm, activation; the last activation comes after the addition. Axes: b, h w grid, d.
"""

from typing import Any

import keras

from tf_vitcnn.models.make import Make, activation, add, batch_norm
from tf_vitcnn.models.specs import PostResNetSpec
from tf_vitcnn.taps import layer_name

Out = dict[str, Any]


def resnet_post(
    spec: PostResNetSpec, size: tuple[int, int], classes: int, seed: int | None, no_skip: frozenset[int], name: str
) -> keras.Model:
    """The model from images [b, h, w, 3] to every sublayer."""
    make, out = Make(seed), dict[str, Any]()
    images = keras.Input((*size, 3), name="images")
    x, index = stem(images, out, spec, make), 0
    for stage, units in enumerate(spec.units):
        for i in range(units):
            stride = 2 if stage and not i else 1
            x = unit(x, out, f"stage{stage + 1}/unit{i:02}", spec, stage, stride, make, keep=index not in no_skip)
            index += 1
    x = out["head/pooled"] = keras.layers.GlobalAveragePooling2D(name="head.pooled")(x)
    if classes:
        out["head/logits"] = make.dense("head/logits", x, classes)
    return keras.Model(images, out, name=name)


def stem(x: Any, out: Out, spec: PostResNetSpec, make: Make) -> Any:
    """The feature map before the first unit, a quarter as high as the images."""
    for i, width in enumerate(spec.stem[:-1]):
        x = make.conv(f"stem/conv{i}", x, width, 3, 1 if i else 2)
        x = batch_norm(f"stem/norm{i}", x)
        x = activation(f"stem/act{i}", x, "relu")
    single = len(spec.stem) == 1
    x = out["stem/conv"] = make.conv("stem/conv", x, spec.stem[-1], 7 if single else 3, 2 if single else 1)
    x = out["stem/norm"] = batch_norm("stem/norm", x)
    x = out["stem/act"] = activation("stem/act", x, "relu")
    x = keras.layers.ZeroPadding2D(1, name="stem.pool.pad")(x)  # nothing is below zero after the activation
    x = out["stem/pool"] = keras.layers.MaxPooling2D(3, 2, name="stem.pool")(x)
    return x


def unit(x: Any, out: Out, at: str, spec: PostResNetSpec, stage: int, stride: int, make: Make, keep: bool) -> Any:
    """The residual stream after two or three convolutions; where its shape changes, the skip is projected."""
    skip, inner, outer = x, spec.inner[stage], spec.outer[stage]
    sizes = (1, 3, 1) if spec.bottleneck else (3, 3)
    for i, size in enumerate(sizes[:-1], 1):
        middle = size == 3
        strides = stride if middle else 1
        x = make.conv(f"{at}/conv{i}/out", x, inner, size, strides, groups=spec.groups if middle else 1)
        out[f"{at}/conv{i}/out"] = x
        x = out[f"{at}/norm{i}/out"] = batch_norm(f"{at}/norm{i}/out", x)
        x = out[f"{at}/act{i}/out"] = activation(f"{at}/act{i}/out", x, "relu")
    last = f"{at}/conv{len(sizes)}/out"
    x = out[last] = make.conv(last, x, outer, sizes[-1])
    x = out[f"{at}/branch/out"] = batch_norm(f"{at}/branch/out", x)
    if keep and (stride > 1 or skip.shape[-1] != outer):
        skip = out[f"{at}/skip/out"] = projected(skip, at, outer, stride, spec.mean_skip, make)
    x = out[f"{at}/resid/sum"] = add(f"{at}/resid/sum", skip, x, keep)
    x = out[f"{at}/resid/post"] = activation(f"{at}/resid/post", x, "relu")
    return x


def projected(x: Any, at: str, width: int, stride: int, averaged: bool, make: Make) -> Any:
    """The skip with other channels, and fewer places."""
    if averaged and stride > 1:
        # an odd side's last row is the mean of what there is
        pool = keras.layers.AveragePooling2D(stride, stride, "same", name=layer_name(f"{at}/skip/pool"))
        x, stride = pool(x), 1
    x = make.conv(f"{at}/skip/conv", x, width, 1, stride)
    return batch_norm(f"{at}/skip/out", x)
