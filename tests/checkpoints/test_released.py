"""Networks of timm and transformers: what those libraries compute from weights drawn by a rule."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.golden import seeded, torch_seeded
from tf_vitcnn import load
from tf_vitcnn.checkpoints import timm_vit
from tf_vitcnn.checkpoints.resample import resampled
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.errors import BadInput

ATOL = 5e-6  # of answers of size one
PER_TOKEN_AXIS = ("attn/q_norm", "attn/k_norm")


def answer(out):
    """What the library's model answers with."""
    if "head/logits_dist" in out:
        return (np.asarray(out["head/logits"]) + np.asarray(out["head/logits_dist"])) / 2
    return np.asarray(
        next(out[key] for key in ("head/logits", "head/pre_logits", "head/norm", "head/pooled") if key in out)
    )


def opened(name, tmp_path, size=None):
    """A case, and its model as we load it."""
    found = torch_seeded.case(name)
    path = torch_seeded.folder(tmp_path / name, found)
    return found, load(f"{name.partition('_')[0]}@{path}", image_size=size)


def pixels(size):
    return seeded.images(2, max(size))[:, : size[0], : size[1]]


@pytest.mark.parametrize("name", torch_seeded.cases())
def test_the_library_computes_the_same(name, tmp_path):
    found, subject = opened(name, tmp_path, tuple(torch_seeded.case(name)["size"]))
    out = subject.model(pixels(found["size"]))
    scale = np.abs(found["answer"]).max()
    np.testing.assert_allclose(answer(out), found["answer"], rtol=0, atol=ATOL * scale)
    assert found["taps"], "no sublayer was compared"
    for tap, row in found["taps"].items():
        got = seeded.summary(out[tap])
        np.testing.assert_allclose(got, row, rtol=0, atol=ATOL * max(1, np.abs(row).max()), err_msg=tap)


# one of each way to place and to resample positions
RESIZED = (
    "timm_augreg",
    "timm_deit_distilled",
    "timm_deit3",
    "timm_dinov2_giant_reg4",
    "timm_test_vit3",
    "timm_dinov3",
)
RESIZED += ("hf_vit", "hf_dinov2", "hf_dinov2_registers", "hf_clip", "hf_siglip", "hf_dinov3")
REST = [name for name in torch_seeded.cases() if name not in (*RESIZED, "hf_mae")]


@pytest.mark.parametrize("name", [*RESIZED, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_images_of_another_size_meet_resampled_positions(name, tmp_path):
    found, subject = opened(name, tmp_path, tuple(torch_seeded.case(name)["size_other"]))
    got = answer(subject.model(pixels(found["size_other"])))
    np.testing.assert_allclose(got, found["answer_other"], rtol=0, atol=ATOL * np.abs(found["answer_other"]).max())


def test_torchvision_s_names_are_the_same_network(tmp_path):
    found = torch_seeded.case("timm_convnext")
    rules = [
        (r"stem\.", "features.0."),
        (r"stages\.(\d)\.downsample\.", lambda m: f"features.{2 * int(m[1])}."),
        (r"stages\.(\d)\.blocks\.(\d+)\.gamma", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.layer_scale"),
        (r"stages\.(\d)\.blocks\.(\d+)\.", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.block."),
        (r"block\.conv_dw", "block.0"),
        (r"block\.norm", "block.2"),
        (r"block\.mlp\.fc1", "block.3"),
        (r"block\.mlp\.fc2", "block.5"),
        (r"head\.norm", "classifier.0"),
        (r"head\.fc", "classifier.2"),
    ]
    arrays = torch_seeded.weights(found["shapes"])
    for pattern, new in rules:
        arrays = {re.sub(pattern, new, name): array for name, array in arrays.items()}
    arrays = {name: array[:, None, None] if "layer_scale" in name else array for name, array in arrays.items()}
    path = torch_seeded.folder(tmp_path, found)
    save_file(arrays, path / "model.safetensors")
    subject = load(f"timm@{path}", image_size=64)
    np.testing.assert_allclose(answer(subject.model(pixels((64, 64)))), found["answer"], atol=1e-5)


def test_positions_are_resampled_as_pytorch_does():
    with np.load(torch_seeded.HERE / "resample.npz") as file:
        grid, expected = file["grid"], {key: file[key] for key in file.files if key != "grid"}
    first = np.ones((1, 2, 4), "float32")
    positions = np.concatenate([first, grid.reshape(1, 49, 4)], axis=1)
    assert len(expected) == 8
    for key, new in expected.items():
        method, *size = key.split("_")
        got = resampled(positions, 2, tuple(map(int, size)), method)
        np.testing.assert_array_equal(got[:, :2], first)
        np.testing.assert_allclose(got[0, 2:], new.reshape(-1, 4), atol=1e-6, err_msg=key)


def changed(tmp_path, name, change):
    """The spec of a case whose state dict was changed."""
    found = torch_seeded.case(name)
    path = torch_seeded.folder(tmp_path / name, found)
    arrays = torch_seeded.weights(found["shapes"])
    change(arrays)
    save_file(arrays, path / "model.safetensors")
    return f"{name.partition('_')[0]}@{path}"


def test_missing_surplus_and_misshaped_weights_are_all_listed(tmp_path):
    def change(arrays):
        del arrays["blocks.1.attn.qkv.bias"], arrays["blocks.1.norm2.weight"]
        arrays["adapter.weight"] = np.zeros((2, 2), "float32")
        arrays["blocks.0.mlp.fc2.weight"] = np.zeros((48, 7), "float32")

    with pytest.raises(BadInput) as error:
        load(changed(tmp_path, "timm_augreg", change))
    line = str(error.value)
    assert "\n" not in line
    for words in (
        "blocks.1.attn.qkv.bias",
        "blocks.1.norm2.weight",
        "surplus: adapter.weight",
        "blocks.0.mlp.fc1.weight",
    ):
        assert words in line, line


def test_integers_and_nan_are_no_weights(tmp_path):
    spec = changed(tmp_path, "hf_vit", lambda arrays: arrays.update({"classifier.bias": np.zeros(7, "int32")}))
    with pytest.raises(BadInput, match=r"classifier\.bias holds int32"):
        load(spec)
    spec = changed(tmp_path, "hf_vit", lambda arrays: arrays.update({"classifier.bias": np.full(7, np.nan, "float32")}))
    with pytest.raises(BadInput, match=r"classifier\.bias.* NaN"):
        load(spec)


def test_half_precision_is_read(tmp_path):
    import ml_dtypes

    found, whole = opened("hf_dinov2", tmp_path / "whole", (32, 32))
    path = tmp_path / "half"
    torch_seeded.folder(path, found)
    arrays = {key: value.astype(ml_dtypes.bfloat16) for key, value in torch_seeded.weights(found["shapes"]).items()}
    save_file(arrays, path / "model.safetensors")
    half = load(f"hf@{path}", image_size=32)
    got, expected = (answer(subject.model(pixels((32, 32)))) for subject in (half, whole))
    assert 1e-5 < np.abs(got - expected).max() < 0.2


def test_a_sharded_checkpoint_and_a_bare_file_are_the_same_network(tmp_path):
    found, whole = opened("hf_dinov2", tmp_path, (32, 32))
    arrays = torch_seeded.weights(found["shapes"])
    path = torch_seeded.folder(tmp_path / "sharded", found)
    (path / "model.safetensors").rename(path / "other.safetensors")
    index = {}
    for i, names in enumerate((list(arrays)[:9], list(arrays)[9:])):
        save_file({name: arrays[name] for name in names}, path / f"model-{i}.safetensors")
        index |= dict.fromkeys(names, f"model-{i}.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for spec in (f"hf@{path}", str(path / "other.safetensors")):
        subject = load(spec, image_size=32)
        assert subject.provenance["weights_sha256"] == whole.provenance["weights_sha256"]
    assert subject.name == "other"
    (path / "model-1.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model-1\.safetensors"):
        load(f"hf@{path}")


def test_preprocessing_is_the_checkpoint_s_own_and_says_where_from(tmp_path):
    found = torch_seeded.case("timm_clip_openai")
    found["config"]["pretrained_cfg"] |= {"crop_pct": 0.9, "input_size": [3, 32, 32]}
    subject = load(f"timm@{torch_seeded.folder(tmp_path / 'a', found)}")
    assert subject.preprocessing.crop == 32 / 35  # timm rounds 35.6 down
    assert subject.preprocessing.values.startswith("0.48145466,") and subject.preprocessing.antialias
    assert subject.provenance["preprocessing_from"]["values"] == "pretrained_cfg of config.json"
    found = torch_seeded.case("hf_dinov2")
    found["processor"] = {"do_resize": True, "size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32}
    found["processor"] |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3}
    subject = load(f"hf@{torch_seeded.folder(tmp_path / 'b', found)}")
    assert subject.preprocessing == Preprocessing((32, 32), "bicubic", True, 0.8, "imagenet")
    assert subject.provenance["preprocessing_from"]["crop"] == "preprocessor_config.json"
    found["processor"] = None
    subject = load(f"hf@{torch_seeded.folder(tmp_path / 'c', found)}", image_size=32)
    assert subject.provenance["preprocessing_from"]["resize"].startswith("default of transformers for dinov2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bert"}, "model_type of transformers 'bert'"),
        ({"hidden_act": "mish"}, "hidden_act 'mish'"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"patch_size": [8, 4]}, "square"),
        ({"num_hidden_layers": 3}, "missing: encoder.layer.2"),
    ],
)
def test_a_configuration_that_is_not_the_network_s_is_refused(change, words, tmp_path):
    found = torch_seeded.case("hf_dinov2")
    found["config"] |= change
    with pytest.raises(BadInput, match=words) as error:
        load(f"hf@{torch_seeded.folder(tmp_path, found)}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("timm@nowhere", "no such file or folder"),
        ("timm:", "nothing after ':'"),
        ("hf@", "nothing after '@'"),
        ("nowhere.safetensors", "no such file"),
    ],
)
def test_a_spec_that_leads_nowhere_is_refused(spec, words):
    with pytest.raises(BadInput, match=words):
        load(spec)


def test_other_architectures_of_timm_are_refused_by_name(tmp_path):
    found = torch_seeded.case("timm_augreg")
    for name in ("vit_base_patch16_rpn_224", "swin_tiny_patch4_window7_224"):
        found["config"]["architecture"] = name
        with pytest.raises(BadInput, match=name):
            load(f"timm@{torch_seeded.folder(tmp_path, found)}")


def test_damaged_files_are_refused(tmp_path):
    found = torch_seeded.case("hf_vit")
    path = torch_seeded.folder(tmp_path, found)
    whole = (path / "model.safetensors").read_bytes()
    for damaged in (b"", whole[:-9], b"\xff" * 64, whole[:4] + b"\xff\xff" + whole[6:]):
        (path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(BadInput, match=r"model\.safetensors"):
            load(f"hf@{path}")
    (path / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"no model\.safetensors; the folder holds config\.json"):
        load(f"hf@{path}")
    (path / "config.json").write_text("[1]")
    with pytest.raises(BadInput, match="holds a list; expected an object"):
        load(f"hf@{path}")


def test_what_no_weight_shows_is_what_timm_s_code_says():
    lines = (torch_seeded.HERE / "timm_architectures.txt").read_text().splitlines()
    assert len(lines) > 150
    for name, *told in map(str.split, lines):
        if told == ["-"]:
            assert not timm_vit.reads(name), name
        elif timm_vit.reads(name):
            width, heads, gelu, epsilon = told
            assert int(width) // timm_vit.lookup(timm_vit.HEAD_WIDTH, name) == int(heads), name
            assert timm_vit.lookup(timm_vit.EPSILON, name) == float(epsilon), name
            assert gelu in ("silu", timm_vit.lookup(timm_vit.GELU, name)), name
    refused = [name for name, *told in map(str.split, lines) if told != ["-"] and not timm_vit.reads(name)]
    assert all("radio" in name for name in refused), refused
