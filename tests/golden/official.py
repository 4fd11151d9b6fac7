"""The official implementations' names of arrays and modules, told in our layers and taps."""

import re

import numpy as np

from tf_vitcnn.taps import layer_name

_MODULES = [
    # ViT; old numbering of the block's modules
    (r"embedding|stem", "stem/embed"),
    (r"cls|Transformer/posembed_input", "stem/tokens"),
    (r"Transformer/encoder_norm|Transformer|pre_head_layer_norm", "final/ln/out"),
    (r"pre_logits", "head/pre_logits"),
    (r"head|resnet/head/conv2d", "head/logits"),
    (r"(?:Transformer/encoderblock|MixerBlock)_(\d+)", "block{0:02}/resid/post"),
    (r"(?:Transformer/encoderblock|MixerBlock)_(\d+)/LayerNorm_0", "block{0:02}/ln1/out"),
    (r"(?:Transformer/encoderblock_(\d+)/LayerNorm_2|MixerBlock_(\d+)/LayerNorm_1)", "block{0:02}/ln2/out"),
    (r"Transformer/encoderblock_(\d+)/MlpBlock_3/Dense_0", "block{0:02}/mlp/pre"),
    (r"Transformer/encoderblock_(\d+)/MlpBlock_3(?:/Dense_1)?", "block{0:02}/mlp/out"),
    (r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_1/query", "block{0:02}/attn/q"),
    (r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_1/key", "block{0:02}/attn/k"),
    (r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_1/value", "block{0:02}/attn/v"),
    (r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_1(?:/out)?", "block{0:02}/attn/out"),
    (r"Transformer/encoderblock_(\d+)/attention_probs", "block{0:02}/attn/probs"),
    # Mixer
    (r"MixerBlock_(\d+)/token_mixing/Dense_0", "block{0:02}/tokenmix/pre"),
    (r"MixerBlock_(\d+)/token_mixing(?:/Dense_1)?", "block{0:02}/tokenmix/out"),
    (r"MixerBlock_(\d+)/channel_mixing/Dense_0", "block{0:02}/chanmix/pre"),
    (r"MixerBlock_(\d+)/channel_mixing(?:/Dense_1)?", "block{0:02}/chanmix/out"),
    # BiT
    (r"resnet/root_block/standardized_conv2d", "stem/conv"),
    (r"resnet/root_block", "stem/pool"),
    (r"resnet/group_norm", "final/norm/out"),
    (r"resnet/block(\d)/unit(\d+)", "stage{0}/unit{1:02}/resid/post"),
    (r"resnet/block(\d)/unit(\d+)/a/group_norm", "stage{0}/unit{1:02}/norm1/out"),
    (r"resnet/block(\d)/unit(\d+)/b/group_norm", "stage{0}/unit{1:02}/norm2/out"),
    (r"resnet/block(\d)/unit(\d+)/c/group_norm", "stage{0}/unit{1:02}/norm3/out"),
    (r"resnet/block(\d)/unit(\d+)/a/proj/standardized_conv2d", "stage{0}/unit{1:02}/skip/out"),
    (r"resnet/block(\d)/unit(\d+)/a/standardized_conv2d", "stage{0}/unit{1:02}/conv1/out"),
    (r"resnet/block(\d)/unit(\d+)/b/standardized_conv2d", "stage{0}/unit{1:02}/conv2/out"),
    (r"resnet/block(\d)/unit(\d+)/c/standardized_conv2d", "stage{0}/unit{1:02}/branch/out"),
    # hybrids
    (r"conv_root", "stem/conv"),
    (r"gn_root", "stem/norm"),
    (r"block(\d)/unit(\d+)", "stage{0}/unit{1:02}/resid/post"),
    (r"block(\d)/unit(\d+)/conv(\d)", "stage{0}/unit{1:02}/conv{2}/out"),
    (r"block(\d)/unit(\d+)/gn([12])", "stage{0}/unit{1:02}/norm{2}/out"),
    (r"block(\d)/unit(\d+)/gn3", "stage{0}/unit{1:02}/branch/out"),
    (r"block(\d)/unit(\d+)/conv_proj", "stage{0}/unit{1:02}/skip/conv"),
    (r"block(\d)/unit(\d+)/gn_proj", "stage{0}/unit{1:02}/skip/out"),
]


def tap(module):
    """Our name of an official module's output."""
    for pattern, name in _MODULES:
        if match := re.fullmatch(pattern, module):
            numbers = [int(number) for number in match.groups() if number]
            if "unit" in name:
                numbers[1] -= 1
            return name.format(*numbers)
    raise KeyError(module)


def assign(model, arrays):
    """Gives every weight of the model the array of its official name; all arrays and all weights are used up."""
    values = {}
    for name, array in arrays.items():
        module, _, leaf = name.rpartition("/")
        if name == "cls":
            module, leaf = "cls", "cls"
        if re.search(r"(?i)norm[^/]*$|/gn\w+$|^gn_root$", module):
            leaf = {"scale": "gamma", "bias": "beta"}.get(leaf, leaf)
        values[f"{layer_name(tap(module))}/{leaf}"] = array
    assert values.keys() == {weight.path for weight in model.weights}
    for weight in model.weights:
        weight.assign(np.reshape(values[weight.path], weight.shape))
