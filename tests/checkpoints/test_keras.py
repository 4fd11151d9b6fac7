import json

import keras
import numpy as np
import pytest

from tf_vitcnn import load, models
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import HybridStem, MixerSpec, ResNetSpec, ViTSpec

TOYS = {
    "vit": (ViTSpec(8, 24, 3, 3, 40), [1], {"family": "vit", "pool": "cls", "patch_size": 8, "depth": 3}),
    "gap": (ViTSpec(8, 24, 1, 3, 40, pool="gap"), [], {"family": "vit", "pool": "gap", "depth": 1}),
    "deit": (ViTSpec(8, 24, 1, 3, 40, gelu="exact"), [], {"family": "vit", "pool": "cls", "depth": 1}),
    "hybrid": (ViTSpec(1, 24, 1, 3, 40, stem=HybridStem((1, 1))), [], {"family": "vit", "patch_size": 8}),
    "bit": (ResNetSpec((1, 1)), [], {"family": "resnet", "pool": "gap", "patch_size": None, "depth": 2}),
    "mixer": (MixerSpec(8, 24, 2, 12, 40), [0], {"family": "mixer", "patch_size": 8, "depth": 2}),
}


def saved(folder, toy):
    spec, lost, facts = TOYS[toy]
    model = models.build(spec, image_size=32, classes=7, no_skip=lost)
    path = folder / f"{toy}.keras"
    keras.Model(model.input, model.output["head/logits"]).save(path)
    return path, model, {**facts, "no_skip": lost}


@pytest.mark.parametrize("toy", TOYS)
def test_a_file_of_ours_has_its_taps_again(toy, tmp_path):
    path, model, facts = saved(tmp_path, toy)
    subject = load(str(path))
    assert subject.name == toy
    assert subject.taps == list(model.output)
    assert {key: subject.provenance[key] for key in facts} == facts
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(subject.model(images)["head/logits"], model(images)["head/logits"], rtol=0, atol=1e-5)


def test_the_card_tells_what_it_was_trained_on(tmp_path):
    path, *_ = saved(tmp_path, "vit")
    preprocessing = {"size": [32, 32], "resize": "bicubic", "antialias": True, "crop": None, "values": "0..1"}
    card = {"trained_on": "digits:train", "training_images": 100, "final_accuracy": 0.5, "preprocessing": preprocessing}
    (tmp_path / "vit.card.json").write_text(json.dumps(card))
    subject = load(str(path), name="mine")
    assert subject.name == "mine"
    assert subject.preprocessing.as_dict() == preprocessing
    known = subject.provenance
    assert (known["trained_on"], known["training_images"], known["final_accuracy"]) == ("digits:train", 100, 0.5)
    assert known["random"] is False
    (tmp_path / "vit.card.json").write_text("{")
    with pytest.raises(BadInput, match="not a card"):
        load(str(path))


def test_a_foreign_model_shows_its_operations(tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, name="conv", activation="relu")(x)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 1, name="again")(x)])
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x)).save(tmp_path / "mine.keras")
    subject = load(str(tmp_path / "mine.keras"), image_size=40)
    assert {"conv", "again", "sum", "pool"} <= set(subject.taps)
    assert subject.model.inputs[0].shape == (None, 40, 40, 3)
    assert subject.preprocessing.values == "0..255"
    assert subject.provenance["family"] == "resnet"
    assert subject.provenance["depth"] == 1


def test_files_that_are_no_models_are_refused(tmp_path):
    for name, data in {"text": b"hello", "zip": b"PK\x05\x06" + bytes(18)}.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(data)
        with pytest.raises(BadInput, match="not a Keras model"):
            load(str(path))
    with pytest.raises(BadInput, match="no such file"):
        load(str(tmp_path / "none.keras"))
    path, *_ = saved(tmp_path, "gap")
    with pytest.raises(BadInput, match="takes images of 32 x 32"):
        load(str(path), image_size=64)


def test_code_in_a_file_is_not_run(tmp_path):
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "code.keras")
    with pytest.raises(BadInput, match="Lambda"):
        load(str(tmp_path / "code.keras"))


def test_nan_in_a_model_is_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    layer = keras.layers.Dense(2, name="layer")
    model = keras.Model(inputs, layer(inputs))
    layer.bias.assign([np.nan, 0])
    model.save(tmp_path / "nan.keras")
    with pytest.raises(BadInput, match="layer/bias holds NaN"):
        load(str(tmp_path / "nan.keras"))


def test_keras_applications():
    subject = load("keras:MobileNetV2@random", image_size=32, seed=3)
    assert subject.name == "MobileNetV2"
    assert subject.preprocessing.values == "-1..1"
    assert subject.provenance["random"]
    assert subject.provenance["depth"] == 10
    with pytest.raises(BadInput, match=r"unknown keras\.applications model 'ResNet5'"):
        load("keras:ResNet5")
