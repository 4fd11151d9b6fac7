"""Random twins: the same graph, weights that its initializers draw with a seed, and a record without training."""

import json

import keras
import numpy as np
import pytest

from tests.golden import torch_seeded
from tf_vitcnn import load, models
from tf_vitcnn.checkpoints.load import original, refuse_unknown, resolved
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ResNetSpec, ViTSpec

CARD = {"trained_on": "digits:train", "training_images": 100, "final_accuracy": 0.5, "classes": 7, "seed": 4}


def saved(folder, spec, classes=7, seed=0):
    model = models.build(spec, image_size=32, classes=classes, seed=seed)
    keras.Model(model.input, model.output["head/logits"]).save(folder / "net.keras")
    (folder / "net.card.json").write_text(json.dumps(CARD))
    return str(folder / "net.keras")


def kernels(subject):
    """Every weight of two or more axes that is no bias of heads."""
    weights = subject.model.weights
    return {w.path: np.asarray(w) for w in weights if len(w.shape) > 1 and "bias" not in w.path}


@pytest.mark.parametrize("spec", [ViTSpec(8, 24, 2, 3, 40), ResNetSpec((1, 1))], ids=["vit", "resnet"])
def test_the_twin_of_a_file_is_its_graph_drawn_again(spec, tmp_path):
    path = saved(tmp_path, spec)
    trained, twin, again, other = (
        load(path),
        load(f"{path}@random"),
        load(f"{path}@random"),
        load(f"{path}@random", seed=1),
    )
    assert twin.taps == trained.taps
    sides = zip(*(kernels(each).values() for each in (trained, twin, again, other)), strict=True)
    for old, new, same, different in sides:
        np.testing.assert_array_equal(new, same)
        assert np.abs(new - old).max() > 0
        assert np.abs(new - different).max() > 0
        # drawn from the same distribution: the deviations of hundreds of numbers agree
        if new.size > 200:
            assert np.std(new) == pytest.approx(np.std(old), rel=0.35)


def test_the_record_of_a_twin_says_random_and_knows_no_training(tmp_path):
    path = saved(tmp_path, ViTSpec(8, 24, 1, 3, 40))
    trained, twin = load(path).provenance, load(f"{path}@random", seed=3).provenance
    assert (trained["random"], trained["trained_on"]) == (False, "digits:train")
    assert (twin["random"], twin["seed"], twin["spec"]) == (True, 3, f"{path}@random")
    assert {twin[key] for key in ("trained_on", "training_images", "final_accuracy", "finetuned_from")} == {None}
    assert twin["classes"] == 7
    assert twin["weights_sha256"] != trained["weights_sha256"]
    assert twin["preprocessing"] == trained["preprocessing"]


def test_the_twin_of_a_released_folder_has_its_sizes_and_preprocessing(tmp_path):
    name = next(case for case in torch_seeded.cases() if case.startswith("hf_dinov2"))
    path = torch_seeded.folder(tmp_path / name, torch_seeded.case(name))
    trained, twin, other = load(f"hf@{path}"), load(f"hf@{path}@random"), load(f"hf@{path}@random", seed=1)
    assert twin.taps == trained.taps
    assert twin.preprocessing == trained.preprocessing
    assert twin.provenance["random"] is True
    hashes = {each.provenance["weights_sha256"] for each in (trained, twin, other)}
    assert len(hashes) == 3
    assert load(f"hf@{path}@random").provenance["weights_sha256"] in hashes


def test_composite_layers_of_others_are_drawn_again_too(tmp_path):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Reshape((4, 24))(keras.layers.Conv2D(6, 4, 4, name="embed")(images))
    x = keras.layers.BatchNormalization(name="bn")(keras.layers.MultiHeadAttention(2, 8, name="mha")(x, x))
    inner = keras.Sequential([keras.Input((4, 24)), keras.layers.Dense(5, name="inside")], name="part")
    model = keras.Model(images, inner(x))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 7.0))
    model.save(tmp_path / "mine.keras")
    twin = load(str(tmp_path / "mine.keras@random"))
    drawn = kernels(twin)
    assert drawn
    assert not [path for path, value in drawn.items() if np.ptp(value) == 0]
    # what starts from a constant does: statistics of norms, biases
    statistics = {w.path.rpartition("/")[2]: np.asarray(w) for w in twin.model.weights if "bn/" in w.path}
    assert {name: float(value.mean()) for name, value in statistics.items()} == {
        "gamma": 1.0,
        "beta": 0.0,
        "moving_mean": 0.0,
        "moving_variance": 1.0,
    }


def test_a_file_whose_layers_start_from_zeros_has_no_twin(tmp_path):
    path = saved(tmp_path, ViTSpec(8, 24, 1, 3, 40), seed=None)
    with pytest.raises(BadInput, match="start from a constant"):
        load(f"{path}@random")


def test_a_twin_is_another_word_than_random_weights_of_an_architecture(tmp_path):
    assert original("vit_b32@random") is None
    assert original("keras:ResNet50@random") is None
    assert original("net.keras") is None
    assert original("net.keras@random") == "net.keras"
    assert original("hf:facebook/dinov2-small@random") == "hf:facebook/dinov2-small"
    assert original("vit_b32@weights.npz@random") == "vit_b32@weights.npz"
    with pytest.raises(BadInput, match="no such file"):
        refuse_unknown(str(tmp_path / "none.keras@random"))
    assert resolved(saved(tmp_path, ViTSpec(8, 24, 1, 3, 40)) + "@random") is None
