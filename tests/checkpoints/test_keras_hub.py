import numpy as np
import pytest

from tests.hub import SMALL, seeded
from tf_vitcnn import load
from tf_vitcnn.checkpoints.keras_hub_preset import handle
from tf_vitcnn.data.images import IMAGENET_MEAN, IMAGENET_STD
from tf_vitcnn.errors import BadInput

keras_hub = pytest.importorskip("keras_hub")
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)

# keras-hub's own: Keras finds no `build` in its classifier
pytestmark = pytest.mark.filterwarnings("ignore:.build... was called on layer 'vi_t_image_classifier'")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder that save_to_preset wrote: a small ViT with a head and ImageNet's statistics, and what it answers."""
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24
    )
    scale = [1 / (255 * s) for s in IMAGENET_STD]
    offset = [-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(32, 32), scale=scale, offset=offset, interpolation="bilinear", antialias=False
    )
    preprocessor = keras_hub.models.ViTImageClassifierPreprocessor(image_converter=converter)
    classifier = keras_hub.models.ViTImageClassifier(backbone=backbone, num_classes=5, preprocessor=preprocessor)
    rng = np.random.default_rng(1)
    for weight in classifier.weights:
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    path = tmp_path_factory.mktemp("preset") / "small_vit"
    classifier.save_to_preset(str(path))
    prepared = converter(IMAGES.astype("float32"))
    return path, np.asarray(prepared), np.asarray(classifier(prepared))


def test_a_preset_s_folder_is_the_network_with_its_preprocessing(preset):
    path, prepared, answer = preset
    subject = load(f"keras_hub:{path}")
    assert subject.name == "small_vit"
    np.testing.assert_allclose(subject.preprocess(IMAGES), prepared, atol=1e-4)
    out = subject.model(prepared)
    assert "block01/attn/probs" in out
    last = np.asarray(list(out.values())[-1])
    np.testing.assert_allclose(last, answer, atol=1e-5 * np.abs(answer).max())
    assert subject.preprocessing.values == "imagenet"
    assert set(subject.provenance["preprocessing_from"].values()) == {"the preset's image converter"}


def test_handles_are_keras_hub_s_own():
    assert handle("keras_hub:vit_base_patch16_224_imagenet") == "vit_base_patch16_224_imagenet"
    assert handle("keras_hub:hf:keras/vit") == "hf://keras/vit"
    assert handle("keras_hub:kaggle:keras/vit/keras/vit_base") == "kaggle://keras/vit/keras/vit_base"
    assert handle("keras_hub:kaggle://keras/vit/keras/vit_base") == "kaggle://keras/vit/keras/vit_base"


def test_what_is_no_preset_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="no folder that save_to_preset wrote"):
        load(f"keras_hub:{tmp_path}")
    with pytest.raises(BadInput, match="nothing after"):
        load("keras_hub:")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="keras-hub cannot load it") as error:
        load(f"keras_hub:{tmp_path}")
    assert "\n" not in str(error.value)


TEXT = {"vocabulary_size": 20, "embedding_dim": 12, "hidden_dim": 12, "num_layers": 1, "num_heads": 3}
TEXT |= {"intermediate_dim": 24, "max_sequence_length": 8}


def _clip():
    hub = keras_hub.models
    towers = {"vision_encoder": hub.CLIPVisionEncoder(**SMALL), "text_encoder": hub.CLIPTextEncoder(**TEXT)}
    return hub.CLIPBackbone(**towers, projection_dim=8), keras_hub.layers.CLIPImageConverter


def _siglip():
    hub = keras_hub.models
    towers = {"vision_encoder": hub.SigLIPVisionEncoder(**SMALL), "text_encoder": hub.SigLIPTextEncoder(**TEXT)}
    return hub.SigLIPBackbone(**towers), keras_hub.layers.SigLIPImageConverter


@pytest.mark.parametrize(("make", "pool"), [(_clip, "cls"), (_siglip, "map")])
def test_of_two_towers_the_image_s_is_looked_at(make, pool, tmp_path):
    backbone, converter = make()
    seeded(backbone)
    backbone.save_to_preset(str(tmp_path / "towers"))
    how = {"image_size": (16, 16), "scale": [1 / 127.5] * 3, "offset": [-1] * 3, "interpolation": "bicubic"}
    converter(**how, antialias=True).save_to_preset(str(tmp_path / "towers"))
    subject = load(f"keras_hub:{tmp_path / 'towers'}")
    known = subject.provenance
    assert (known["family"], known["pool"], known["depth"], known["notes"]) == ("vit", pool, 2, [])
    assert (subject.preprocessing.values, subject.preprocessing.size) == ("-1..1", (16, 16))
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    answer = np.asarray(backbone.vision_encoder({"images": x}))
    np.testing.assert_array_equal(list(subject.model(x).values())[-1], answer)
    assert not any("text" in weight.path for weight in subject.model.weights)
