"""Parameter counts of every architecture, by an independent closed form; nothing large is built."""

from dataclasses import replace

import pytest

from tests.models.test_models import TOYS
from tf_vitcnn import models
from tf_vitcnn.checkpoints.layouts import count
from tf_vitcnn.models.specs import MixerSpec, ResNetSpec

# published: vision_transformer's models_test.py, big_transfer's table, and sizes of files in MiB less the zip's own
COUNTS = {
    ("r_ti16", 1000): 6_337_704,
    ("bit_r50x1", 1000): 25_549_352,
    ("bit_r50x1", 21843): 68_256_659,
    ("bit_r50x3", 1000): 217_319_080,
    ("bit_r50x3", 21843): 345_399_315,
    ("bit_r101x1", 1000): 44_541_480,
    ("bit_r101x1", 21843): 87_248_787,
    ("bit_r101x3", 1000): 387_934_888,
    ("bit_r101x3", 21843): 516_015_123,
    ("bit_r152x2", 1000): 236_335_208,
    ("bit_r152x2", 21843): 321_728_979,
    ("bit_r152x4", 1000): 936_533_224,
    ("bit_r152x4", 21843): 1_107_299_923,
}
MIB = {
    ("vit_b16", 1000, 384, 0): 331.34,
    ("vit_b16", 1000, 224, 0): 330.23,
    ("vit_b16", 21843, 224, 768): 393.63,
    ("vit_b32", 1000, 384, 0): 336.83,
    ("vit_b32", 1000, 224, 0): 336.55,
    ("vit_b32", 21843, 224, 768): 399.94,
    ("vit_b8", 21843, 224, 768): 393.66,
    ("vit_b8", 1000, 384, 0): 334.72,
    ("vit_l16", 21843, 224, 0): 1242.4,
    ("vit_l32", 21843, 224, 1024): 1.23 * 1024,
    ("vit_h14", 21843, 224, 1280): 2.46 * 1024,
    ("vit_b16", 21843, 224, 0): 391.4,
    ("vit_s16", 21843, 224, 0): 114.7,
    ("vit_ti16", 21843, 224, 0): 37.2,
    ("vit_b32", 21843, 224, 0): 397.7,
    ("vit_s32", 21843, 224, 0): 117.9,
    ("vit_s16", 1000, 224, 0): 84.12,
    ("r50_l32", 21843, 224, 0): 1336.5,
    ("r26_s32", 21843, 224, 0): 169.6,
    ("r_ti16", 21843, 224, 0): 39.5,
    ("r50_b16", 21843, 224, 768): 439.75,
    ("r26_b32", 21843, 224, 768): 450.15,
    ("r50_b16", 1000, 384, 0): 377.47,
    ("mixer_b16", 21843, 224, 0): 289.57,
    ("mixer_l16", 21843, 224, 0): 875.70,
    ("mixer_b16", 1000, 224, 0): 228.43,
    ("mixer_l16", 1000, 224, 0): 794.21,
}


def test_counts_are_the_published_ones():
    for (name, classes), expected in COUNTS.items():
        assert closed_form(models.SPECS[name], classes) == expected, name
    for (name, classes, size, pre_logits), mib in MIB.items():
        spec = replace(models.SPECS[name], pre_logits=pre_logits) if pre_logits else models.SPECS[name]
        close = pytest.approx(mib, rel=5e-3 if mib > 1200 else 2e-3)  # GiB are rounded to two digits
        assert closed_form(spec, classes, size) * 4 / 2**20 == close, name


@pytest.mark.parametrize("classes", [0, 1000, 21843])
def test_a_checkpoint_has_as_many_numbers(classes):
    for name, spec in models.SPECS.items():
        for size in ((224, 224), (448, 224)):
            assert count(spec, size, classes) == closed_form(spec, classes, size), name


@pytest.mark.parametrize("name", TOYS)
def test_a_model_has_as_many_parameters(name):
    for size, classes in (((32, 32), 7), ((32, 48), 0)):
        model = models.build(TOYS[name], image_size=size, classes=classes, seed=None)
        assert model.count_params() == closed_form(TOYS[name], classes, size)


def closed_form(spec, classes, image_size=224):
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if isinstance(spec, ResNetSpec):
        return _resnet(spec, classes)
    if isinstance(spec, MixerSpec):
        tokens = size[0] // spec.patch * (size[1] // spec.patch)
        d = spec.width
        block = 4 * d + _mlp(tokens, spec.tokens_mlp) + _mlp(d, spec.channels_mlp)
        return _dense(3 * spec.patch**2, d) + spec.depth * block + 2 * d + _dense(d, classes)
    return _vit(spec, classes, size)


def _dense(inputs, units):
    return (inputs + 1) * units


def _mlp(width, hidden):
    return _dense(width, hidden) + _dense(hidden, width)


def _vit(spec, classes, size):
    d, features, stem = spec.width, 3, 0
    if spec.stem:
        features, stem, size = _stem(spec.stem, size)
    grid = size[0] // spec.patch * (size[1] // spec.patch)
    tokens = 2 * len(spec.extra) * d + grid * d  # each extra token has a position
    blocks = spec.depth * (4 * d + 4 * _dense(d, d) + _mlp(d, spec.mlp))
    pooled = spec.pre_logits or d
    head = (_dense(d, spec.pre_logits) if spec.pre_logits else 0) + _dense(pooled, classes) * (1 + spec.distilled)
    return stem + _dense(features * spec.patch**2, d) + tokens + blocks + 2 * d + head


def _bottleneck(features, width):
    project = 4 * width * features if features != 4 * width else 0
    return features * width + 9 * width**2 + 4 * width**2 + project


def _resnet(spec, classes):
    features = spec.channels
    count = 7 * 7 * 3 * features
    for stage, units in enumerate(spec.units):
        width = spec.channels * 2**stage
        for _ in range(units):
            count += _bottleneck(features, width) + 2 * features + 4 * width
            features = 4 * width
    return count + 2 * features + _dense(features, classes)


def _stem(spec, size):
    features = 64 * spec.width_factor
    count = 7 * 7 * 3 * features + 2 * features
    for stage, units in enumerate(spec.units):
        width = 64 * spec.width_factor * 2**stage
        for _ in range(units):
            norms = 4 * width + 8 * width + (8 * width if features != 4 * width else 0)
            count += _bottleneck(features, width) + norms
            features = 4 * width
    stride = 4 * 2 ** max(0, len(spec.units) - 1)
    return features, count, (-(-size[0] // stride), -(-size[1] // stride))
