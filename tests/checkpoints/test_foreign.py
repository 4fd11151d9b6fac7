"""Users' own models as subjects: objects, files and flags; their structure, and where their preprocessing is from."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import users
from tf_vitcnn import load, run
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.errors import BadInput

L = keras.layers


def convolutional(*first):
    x = images = keras.Input((16, 16, 3))
    for layer in first:
        x = layer(x)
    x = L.Conv2D(4, 3, padding="same", name="conv")(x)
    for i in range(2):
        y = L.Conv2D(4, 3, padding="same", activation="relu")(L.Rescaling(0.1, name=f"scale{i}")(x))
        x = L.Add()([x, L.Conv2D(4, 3, padding="same")(y)])
    return keras.Model(images, L.GlobalAveragePooling2D()(x), name="mine")


def test_a_rescaling_that_is_not_the_inputs_says_nothing_about_pixels():
    """LayerScale written as Rescaling moved skip ratios by up to 134 times, and CKA by up to .76, without a word."""
    subject = load(convolutional())
    assert subject.preprocessing.values == "-1..1"
    assert subject.provenance["preprocessing_from"]["values"] == "default"
    (note,) = subject.provenance["notes"]
    assert (
        "taken by default: values -1..1, resize bilinear, crop none (--values, --resize, --crop say otherwise)" in note
    )
    inside = load(convolutional(L.Rescaling(1 / 255, name="pixels")))
    assert inside.preprocessing.values == "0..255"
    assert inside.provenance["preprocessing_from"]["values"] == "the layer 'pixels' at its input"
    normal = load(convolutional(L.Normalization(mean=[0.5] * 3, variance=[0.1] * 3)))
    assert normal.preprocessing.values == "0..1"
    said = load(convolutional(), values="caffe", resize="bicubic", crop=0.875, family="other")
    assert (said.preprocessing.values, said.preprocessing.crop, said.provenance["family"]) == ("caffe", 0.875, "other")
    assert set(said.provenance["preprocessing_from"].values()) == {"asked for"}
    assert said.provenance["notes"] == []
    whole = load(convolutional(), preprocessing=Preprocessing((16, 16), values="imagenet"), name="own")
    assert (whole.name, whole.preprocessing.values, whole.provenance["notes"]) == ("own", "imagenet", [])
    assert load(convolutional(), preprocessing={"values": "imagenet"}, image_size=16).preprocessing.size == (16, 16)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"values": "0..2"}, "unknown value range '0..2'"),
        ({"crop": "half"}, "crop 'half': expected a share"),
        ({"family": "cnn"}, "unknown family 'cnn'"),
        ({"preprocessing": {"sise": 3}}, "expected size, resize"),
        ({"preprocessing": Preprocessing((8, 8))}, "takes images of 16 x 16"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(given, says):
    with pytest.raises(BadInput, match=says) as caught:
        load(convolutional(), **given)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="expected a spec or a Keras model, got int"):
        load(3)


def test_structure_of_a_users_networks():
    known = load(convolutional()).provenance
    assert (known["family"], known["depth"], known["pool"], known["patch_size"]) == ("resnet", 2, "gap", None)
    units = known["structure"]["units"]
    assert [unit["end"] for unit in units] == ["stage1/unit00/resid/post", "stage1/unit01/resid/post"]
    assert [(unit["stage"], unit["grid"], unit["attends"]) for unit in units] == [(1, [16, 16], False)] * 2
    known = load(users.vit()).provenance
    assert (known["family"], known["depth"], known["pool"], known["patch_size"]) == ("vit", 2, "cls", 8)
    assert known["structure"]["extra"] == ["cls"]
    assert [unit["attends"] for unit in known["structure"]["units"]] == [True, False] * 2
    assert [unit["block"] for unit in known["structure"]["units"]] == [0, 0, 1, 1]
    assert known["structure"]["attention"] == ["block00/attn/probs", "block01/attn/probs"]
    assert known["paths"]["block01/resid/post"].startswith("blocks_1/")
    swin = load(users.swin()).provenance
    assert (swin["family"], [unit["stage"] for unit in swin["structure"]["units"]]) == ("vit", [1] * 4 + [2] * 2)


def images(count=12):
    return np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), np.uint8)


def test_run_takes_a_model_and_arrays():
    model, labels = convolutional(), np.arange(12) % 3
    table = run("skip_ratio", model, images(), preprocessing={"values": "0..1", "size": 16})
    assert list(table.layer.unique()) == ["stage1/unit00/branch/out", "stage1/unit01/branch/out"]
    record = table.attrs["sidecar"]
    assert record["subjects"][0]["preprocessing"]["values"] == "0..1"
    for data in (
        (images(), labels),
        tf.data.Dataset.from_tensor_slices(images()),
        tf.data.Dataset.from_tensor_slices((images(), labels)).batch(5),
    ):
        again = run("skip_ratio", model, data, preprocessing={"values": "0..1", "size": 16})
        np.testing.assert_allclose(again["ratio"], table["ratio"], rtol=1e-6)
    assert record["data"]["fingerprint"] == run("skip_ratio", model, images()).attrs["sidecar"]["data"]["fingerprint"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (images().astype("float32"), "images of type float32; expected uint8"),
        (images()[0, 0], r"images of shape \[20, 3\]"),
        ((images(), np.arange(3)), r"labels of type int64 and shape \[3\]; expected one integer for each of 12"),
        ({"images": images()}, "data of type dict: expected a spec, uint8 images"),
        (tf.data.Dataset.from_tensors(images()[0]).repeat(), "has no end"),
        (tf.data.Dataset.from_tensor_slices(images()).filter(lambda x: True), "does not say its size"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_a_line(data, says):
    with pytest.raises(BadInput, match=says) as caught:
        run("skip_ratio", convolutional(), data)
    assert "\n" not in str(caught.value)


def test_a_file_with_layers_of_a_users_own(tmp_path, capsys):
    from tf_vitcnn.commands import analyze

    own = tmp_path / "layers_of_mine.py"
    own.write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('own')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    from tf_vitcnn.commands.networks import import_all

    with pytest.raises(BadInput, match=r"--import .*nowhere.py: no such file"):
        import_all((str(tmp_path / "nowhere.py"),))
    import_all((str(own),))
    Twice = keras.saving.get_registered_object("own>Twice")
    path = tmp_path / "twice.keras"
    convolutional(Twice(name="twice")).save(path)
    flags = [
        "--model",
        str(path),
        "--data",
        "digits:test",
        "--images",
        "8",
        "--out",
        str(tmp_path),
        "--values",
        "-1..1",
    ]
    assert analyze.main(["skip_ratio", *flags, "--import", str(own), "--resize", "bicubic"], "analyze") == 0
    record = json.loads((tmp_path / "skip_ratio" / "twice.json").read_text())["subjects"][0]
    assert record["preprocessing_from"] == {"values": "asked for", "resize": "asked for", "crop": "default"}
    assert "crop none" in capsys.readouterr().err
