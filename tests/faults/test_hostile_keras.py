"""Saved Keras models from strangers: nothing in them runs, nothing outside is read, no declared size is believed."""

import contextlib
import io
import json
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tests.faults.readers import make_keras, read_keras
from tf_vitcnn.errors import BadInput

MiB = 2**20


def rewrite(path, config=None, weights=None, extra=None):
    """The archive with its config and its HDF5 file changed in place by functions, and further members."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    if config:
        members["config.json"] = json.dumps(config(json.loads(members["config.json"]))).encode()
    if weights:
        buffer = io.BytesIO(members["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            weights(file)
        members["model.weights.h5"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in {**members, **(extra or {})}.items():
            new.writestr(name, data)


def refused(folder, match=""):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BadInput, match=match) as caught:
            read_keras(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def model(tmp_path):
    make_keras(tmp_path)
    (tmp_path / "x.card.json").unlink()
    return tmp_path / "x.keras"


def layer_of(config, kind):
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == kind)


def test_a_lambda_is_refused(tmp_path):
    mark = tmp_path / "code was run"
    images = keras.Input((8, 8, 3))
    path = str(mark)

    def trap(x):
        open(path, "w").close()  # noqa: PTH123
        return x

    keras.Model(images, keras.layers.Lambda(trap, output_shape=(8, 8, 3))(images)).save(tmp_path / "x.keras")
    mark.unlink(missing_ok=True)
    refused(tmp_path)
    assert not mark.exists()


CALLS = [
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    {"module": "os", "class_name": "system", "config": "touch {mark}", "registered_name": None},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
    {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "{mark}"]}, "registered_name": None},
    {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
    {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"},
    {"module": "pickle", "class_name": "function", "config": "loads", "registered_name": "loads"},
    {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}},
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("where", ["activation", "layer"])
def test_no_function_is_called(tmp_path, model, call, where):
    mark = tmp_path / "code was run"
    call = json.loads(json.dumps(call).replace("{mark}", str(mark)))

    def change(config):
        dense = layer_of(config, "Dense")
        if where == "activation":
            dense["config"]["activation"] = call
        else:
            dense.update(call)
        return config

    rewrite(model, config=change)
    refused(tmp_path)
    assert not mark.exists()
    assert keras.config.is_interactive_logging_enabled() is not None  # Keras is still itself
    from keras.src.saving import serialization_lib

    assert serialization_lib.in_safe_mode() is not False


def test_members_that_point_outside(tmp_path, model):
    rewrite(model, extra={"../outside.txt": b"x", "assets/../../outside.txt": b"x", "/tmp/outside-tf-vitcnn": b"x"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(BadInput):
            read_keras(tmp_path)
    assert not list(tmp_path.parent.glob("outside*")) and not list(tmp_path.glob("outside*"))


def kernel(file):
    return file["layers/dense/vars"]


def external_link(file):
    del kernel(file)["0"]
    kernel(file)["0"] = h5py.ExternalLink("secret.h5", "/secret")


def external_storage(file):
    shape = kernel(file)["0"].shape
    del kernel(file)["0"]
    kernel(file).create_dataset("0", shape, "f4", external=[("secret.bin", 0, h5py.h5f.UNLIMITED)])


def virtual(file):
    shape = kernel(file)["0"].shape
    del kernel(file)["0"]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "secret", shape)
    kernel(file).create_virtual_dataset("0", layout)


@pytest.mark.parametrize("attack", [external_link, external_storage, virtual])
def test_weights_do_not_come_from_other_files(tmp_path, model, attack, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["secret"] = np.ones((256, 3), np.float32)
    (tmp_path / "secret.bin").write_bytes(bytes(256 * 3 * 4))
    rewrite(model, weights=attack)
    refused(tmp_path)


@pytest.mark.parametrize("shape", [(10**6, 10**6), (256, 10**9), (2**20, 2**9)])
def test_a_huge_weight_is_refused_before_allocation(tmp_path, model, shape, watch):
    def swell(file):
        del kernel(file)["0"]
        kernel(file).create_dataset("0", shape, "f4", chunks=(256, 3))  # no chunk is stored

    rewrite(model, weights=swell)
    assert model.stat().st_size < MiB
    watch.reset()
    before = watch.peak()
    refused(tmp_path)
    assert watch.peak() - before < 256 * MiB


@pytest.mark.parametrize("units", [10**12, 10**8, 2**63])
def test_a_huge_layer_is_refused_before_allocation(tmp_path, model, units, watch):
    def change(config):
        layer_of(config, "Dense")["config"]["units"] = units
        return config

    rewrite(model, config=change)
    watch.reset()
    before = watch.peak()
    refused(tmp_path)
    assert watch.peak() - before < 256 * MiB


def test_a_huge_image_is_refused(tmp_path, model):
    def change(config):
        layer_of(config, "InputLayer")["config"]["batch_shape"] = [None, 10**6, 10**6, 3]
        return config

    rewrite(model, config=change)
    refused(tmp_path)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"module": "keras"}', b"\xff\xfe"])
def test_odd_configs(tmp_path, model, text):
    with zipfile.ZipFile(model) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(model, "w") as new:
        for name, data in {**members, "config.json": text}.items():
            new.writestr(name, data)
    refused(tmp_path)


@pytest.mark.parametrize("card", ["[]", "{", '{"preprocessing": 3}', '{"preprocessing": {"size": [8]}}', "[" * 100_000])
def test_odd_cards(tmp_path, model, card):
    (tmp_path / "x.card.json").write_text(card)
    refused(tmp_path)
