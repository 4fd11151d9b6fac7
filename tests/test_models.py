import numpy as np
import pytest

from tf_vitcnn import models, taps
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import HybridStem, MixerSpec, ResNetSpec, ViTSpec

TOYS = {
    "vit": ViTSpec(8, 24, 2, 3, 40, pre_logits=16),
    "vit_gap": ViTSpec(8, 24, 2, 3, 40, pool="gap"),
    "deit_distilled": ViTSpec(8, 24, 2, 3, 40, gelu="exact", distilled=True),
    "hybrid": ViTSpec(1, 24, 1, 3, 40, stem=HybridStem((2, 1))),
    "bit": ResNetSpec((1, 2)),
    "mixer": MixerSpec(8, 24, 2, 12, 40),
}


def images(size=(32, 32), n=2):
    return np.random.default_rng(0).uniform(-1, 1, (n, *size, 3)).astype("float32")


@pytest.fixture(scope="module", params=TOYS)
def toy(request):
    return models.build(TOYS[request.param], image_size=32, classes=7, seed=1)


def test_every_tap_is_float32_and_made_by_the_layer_of_its_name(toy):
    values = toy(images())
    assert list(values) == list(toy.output) == taps.in_depth_order(values)
    for name, value in values.items():
        assert value.dtype == "float32", name
        assert toy.get_layer(taps.layer_name(name)).output is toy.output[name]
        assert np.isfinite(value).all(), name
        assert np.std(value) > 0, name


def test_a_patch_must_tile_the_image():
    with pytest.raises(BadInput, match="patches of 8 pixels"):
        models.build(TOYS["vit"], image_size=(32, 36))
