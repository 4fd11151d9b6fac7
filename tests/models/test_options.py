"""What newer families do otherwise: names, order, seeds and lost skips of their sublayers."""

import numpy as np
import pytest

from tests.golden import seeded
from tf_vitcnn import models, opening, taps
from tf_vitcnn.checkpoints.assign import weights_of
from tf_vitcnn.checkpoints.layouts import rows
from tf_vitcnn.models.specs import ConvNeXtSpec, PostResNetSpec, ViTSpec, blocks_of

TOYS = {
    "rotary": ViTSpec(
        *(8, 24, 1, 3, 40), registers=2, positions="rotary", layer_scale=True, gated=True, gelu="silu", no_bias=("k",)
    ),
    "map": ViTSpec(
        *(8, 24, 1, 3, 40), pool="map", embed_norm=True, pre_norm=True, qk_norm=True, norm="rms", final_norm="none"
    ),
    "resnet_post": PostResNetSpec((1, 2), (8, 12), (32, 48)),
    "convnext": ConvNeXtSpec((1, 2), (8, 12), response_norm=True),
}


@pytest.mark.parametrize("name", TOYS)
def test_taps_are_the_golden_ones_in_depth_order_and_weights_those_of_the_layout(name):
    model = models.build(TOYS[name], image_size=32, classes=7, seed=1)
    values = model(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32"))
    lines = [f"{tap} {'x'.join(map(str, value.shape[1:]))}" for tap, value in values.items()]
    assert lines == (seeded.HERE / f"taps/{name}.txt").read_text().splitlines()
    assert list(values) == taps.in_depth_order(values)
    for tap in values:
        assert model.get_layer(taps.layer_name(tap)).output is model.output[tap]
    expected = {row.target: int(np.prod(row.shape)) for row in rows(TOYS[name], (32, 32), 7)}
    assert {path: int(np.prod(weight.shape)) for path, weight in weights_of(model)} == expected
    last = blocks_of(TOYS[name]) - 1
    assert set(models.build(TOYS[name], image_size=32, classes=7, no_skip=(last,)).output) <= set(values)


@pytest.mark.parametrize(("cls", "registers"), [(False, 4), (True, 1), (True, 0), (False, 1)])
def test_registers_are_never_taken_for_a_class_token(cls, registers):
    spec = ViTSpec(8, 24, 1, 3, 40, pool="gap", cls=cls, registers=registers)
    model = models.build(spec, image_size=32, classes=0)
    names = (*("cls",) * cls, *(f"reg{i}" for i in range(registers)))
    assert spec.extra == opening.layout(model, "block00/resid/post").extra == names
