"""ResNets with batch norms and ConvNeXts under the names of timm, torchvision and transformers, told in timm's.

Every size shows in the arrays; what does not (ConvNeXt's epsilon) is timm's or the configuration's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.conv_layouts import conv_rows
from tf_vitcnn.checkpoints.found import Found, numbered, renamed
from tf_vitcnn.checkpoints.torch_config import number, shape
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ConvNeXtSpec, ConvSpec, PostResNetSpec

Config = Mapping[str, Any]
Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
TIMM = (
    r"(resnet|resnext|wide_resnet)\d+(_\d+)?([cdst])?(_\d+x\d+d)?|test_resnet|"
    r"convnext(v2)?_(atto|femto|pico|nano|tiny|small|base|large|xlarge|huge|xxlarge)(_hnf|_\d+)?"
)
MODEL_TYPES = ("resnet", "convnext", "convnextv2", "dinov3_convnext")


def _less(template: str) -> Callable[[re.Match[str]], str]:
    """A name with the match's groups, `{n}` one more than the first, `{half}` and `{below}` half of it."""

    def name(match: re.Match[str]) -> str:
        first = int(match[1])
        return template.format(*match.groups(), n=first + 1, half=first // 2, below=(first - 1) // 2)

    return name


TORCHVISION: Rules = (  # of ConvNeXt; its ResNet has timm's names
    (r"features\.0\.([01])\.", r"stem.\1."),
    (r"features\.(\d)\.(\d+)\.layer_scale", _less("stages.{below}.blocks.{1}.gamma")),
    (r"features\.(\d)\.(\d+)\.block\.0\.", _less("stages.{below}.blocks.{1}.conv_dw.")),
    (r"features\.(\d)\.(\d+)\.block\.2\.", _less("stages.{below}.blocks.{1}.norm.")),
    (r"features\.(\d)\.(\d+)\.block\.3\.", _less("stages.{below}.blocks.{1}.mlp.fc1.")),
    (r"features\.(\d)\.(\d+)\.block\.5\.", _less("stages.{below}.blocks.{1}.mlp.fc2.")),
    (r"features\.(\d)\.([01])\.", _less("stages.{half}.downsample.{1}.")),
    (r"classifier\.0\.", "head.norm."),
    (r"classifier\.2\.", "head.fc."),
)
TRANSFORMERS: Rules = (
    (r"resnet\.|convnext\.|convnextv2\.|model\.(?=stages)", ""),
    (r"embedder\.embedder\.convolution\.", "conv1."),
    (r"embedder\.embedder\.normalization\.", "bn1."),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.convolution\.", _less("layer{n}.{1}.downsample.0.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.normalization\.", _less("layer{n}.{1}.downsample.1.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.0\.convolution\.", _less("layer{n}.{1}.conv1.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.1\.convolution\.", _less("layer{n}.{1}.conv2.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.2\.convolution\.", _less("layer{n}.{1}.conv3.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.0\.normalization\.", _less("layer{n}.{1}.bn1.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.1\.normalization\.", _less("layer{n}.{1}.bn2.")),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.2\.normalization\.", _less("layer{n}.{1}.bn3.")),
    (r"classifier\.1\.", "fc."),
    (r"embeddings\.patch_embeddings\.|stages\.0\.downsample_layers\.0\.", "stem.0."),
    (r"embeddings\.layernorm\.|stages\.0\.downsample_layers\.1\.", "stem.1."),
    (r"encoder\.stages", "stages"),
    (r"(stages\.\d)\.(?:downsampling_layer|downsample_layers)\.", r"\1.downsample."),
    (r"(stages\.\d)\.layers\.(\d+)\.", r"\1.blocks.\2."),
    (r"(blocks\.\d+)\.layer_scale_parameter", r"\1.gamma"),
    (r"(blocks\.\d+)\.(?:dwconv|depthwise_conv)\.", r"\1.conv_dw."),
    (r"(blocks\.\d+)\.(?:layernorm|layer_norm)\.", r"\1.norm."),
    (r"(blocks\.\d+)\.(?:pwconv|pointwise_conv)([12])\.", r"\1.mlp.fc\2."),
    (r"(blocks\.\d+)\.grn\.", r"\1.mlp.grn."),
    (r"^(?:layernorm|layer_norm)\.", "head.norm."),
    (r"^classifier\.", "head.fc."),
)


def reads(name: str) -> bool:
    """Whether this is one of timm's convolutional networks that we build."""
    return bool(re.fullmatch(TIMM, name))


def of_timm(source: str, arrays: Mapping[str, Array], config: Config) -> Found:
    """A checkpoint of timm or torchvision in timm's names, with its sizes."""
    rules = TORCHVISION if any(name.startswith("features.") for name in arrays) else ()
    given = (config.get("model_args") or {}).get("norm_eps")
    # timm's code gives the largest one another epsilon
    epsilon = given or (1e-5 if config.get("architecture") == "convnext_xxlarge" else 1e-6)
    return _read(source, arrays, rules, float(epsilon))


def of_transformers(source: str, arrays: Mapping[str, Array], config: Config) -> Found:
    """A checkpoint of transformers in timm's names, with its sizes."""
    if config.get("model_type") == "resnet":
        if config.get("hidden_act", "relu") != "relu" or config.get("downsample_in_bottleneck"):
            raise BadInput(
                f"{source}: another ResNet than v1.5 with ReLU; expected hidden_act relu, strides in the 3 x 3"
            )
    elif config.get("hidden_act", "gelu") != "gelu":
        raise BadInput(f"{source}: hidden_act is {config['hidden_act']!r}; expected gelu")
    if config.get("model_type") == "dinov3_convnext":
        return _read(source, arrays, TRANSFORMERS, float(number(config, "layer_norm_eps", 1e-6)))
    # the stages' norms have theirs fixed in the code
    return _read(source, arrays, TRANSFORMERS, 1e-6, float(number(config, "layer_norm_eps", 1e-12)))


def _read(source: str, arrays: Mapping[str, Array], rules: Rules, epsilon: float, last: float | None = None) -> Found:
    kept = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    arrays = renamed(source, kept, lambda name: _named(name, rules))
    spec: ConvSpec = _convnext(source, arrays, epsilon, last) if "stem.0.weight" in arrays else _resnet(source, arrays)
    head = arrays.get("head.fc.weight") or arrays.get("fc.weight")
    classes = head.shape[0] if head is not None and head.shape else 0
    expected = {row.key: row.shape for row in conv_rows(spec, classes)}
    found = {key: _turned(array, expected[key]) if key in expected else array for key, array in arrays.items()}
    spelled = (lambda key: f"{key} (in timm's names)") if rules else str
    return Found(source, "resnet", found, spec, classes, None, spelled)


def _named(name: str, rules: Rules) -> str:
    """The name in timm of a weight."""
    for pattern, new in rules:
        name = re.sub(pattern if pattern.startswith("^") else rf"(?:^|(?<=\.)){pattern}", new, name)
    return name


def _turned(array: Array, expected: tuple[int, ...]) -> Array:
    """A weight in Keras' layout; one of another rank stays as it is, so that the comparison of shapes names it."""
    there = array.shape
    if len(expected) == 1:
        return array.reshaped(expected) if array.size == expected[0] else array
    if len(expected) == 2 and len(there) == 4 and there[2:] == (1, 1):  # a convolution over one place
        array = array.reshaped(there[:2])
        there = array.shape
    if len(there) != len(expected):
        return array
    # one kernel for each channel stands the other way round: [d, 1, h, w] as [h, w, d, 1]
    alone = len(there) == 4 and expected[-1] == 1 != there[0]
    axes = (1, 0) if len(there) == 2 else (2, 3, 0, 1) if alone else (2, 3, 1, 0)
    return array.turned([there[axis] for axis in axes], lambda x: np.transpose(x, axes))


def _resnet(source: str, arrays: Mapping[str, Array]) -> PostResNetSpec:
    stages = range(1, 1 + max(0, numbered(arrays, r"layer(\d)\.")))
    units = tuple(1 + numbered(arrays, rf"layer{stage}\.(\d+)\.") for stage in stages)
    bottleneck = "layer1.0.conv3.weight" in arrays
    last = "conv3" if bottleneck else "conv2"
    inner = tuple(shape(source, arrays, f"layer{stage}.0.conv1.weight", 4)[0] for stage in stages)
    outer = tuple(shape(source, arrays, f"layer{stage}.0.{last}.weight", 4)[0] for stage in stages)
    deep = "conv1.weight" not in arrays
    stem = (
        tuple(shape(source, arrays, f"conv1.{i}.weight", 4)[0] for i in (0, 3, 6))
        if deep
        else (shape(source, arrays, "conv1.weight", 4)[0],)
    )
    if not units or min(units) < 1:
        raise BadInput(f"{source}: stages without units; expected a ResNet's layer1.0, layer2.0, ...")
    middle = shape(source, arrays, f"layer1.0.{'conv2' if bottleneck else 'conv1'}.weight", 4)
    groups = max(1, inner[0] // middle[1]) if bottleneck else 1
    averaged = any(key.endswith("downsample.2.weight") for key in arrays)
    return PostResNetSpec(units, inner, outer, bottleneck, groups, stem, averaged)


def _convnext(source: str, arrays: Mapping[str, Array], epsilon: float, last: float | None) -> ConvNeXtSpec:
    stages = range(1 + numbered(arrays, r"stages\.(\d)\."))
    units = tuple(1 + numbered(arrays, rf"stages\.{stage}\.blocks\.(\d+)\.") for stage in stages)
    depthwise = [shape(source, arrays, f"stages.{stage}.blocks.0.conv_dw.weight", 4) for stage in stages]
    if not units or min(units) < 1:
        raise BadInput(f"{source}: stages without blocks; expected a ConvNeXt's stages.0.blocks.0, ...")
    hidden = arrays["stages.0.blocks.0.mlp.fc1.bias"].shape if "stages.0.blocks.0.mlp.fc1.bias" in arrays else (0,)
    return ConvNeXtSpec(
        units=units,
        widths=tuple(kernel[0] for kernel in depthwise),
        patch=shape(source, arrays, "stem.0.weight", 4)[-1],
        kernel=depthwise[0][-1],
        expansion=max(1, hidden[0] // depthwise[0][0]),
        layer_scale="stages.0.blocks.0.gamma" in arrays,
        response_norm="stages.0.blocks.0.mlp.grn.weight" in arrays,
        epsilon=epsilon,
        head_epsilon=last,
        final_norm="pooled" if "head.norm.weight" in arrays else "tokens" if "norm_pre.weight" in arrays else "none",
    )
