import hashlib
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints.test_npz import linen
from tests.golden import seeded
from tests.written import TOYS, family, released, save
from tf_vitcnn import load
from tf_vitcnn.checkpoints.jax2tf import positions
from tf_vitcnn.checkpoints.verify import verify
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ViTSpec

GOLDEN = seeded.HERE / "savedmodels"


def sha(spec):
    return load(str(spec)).provenance["weights_sha256"]


def export(folder, variables, answer=None, **attributes):
    """A SavedModel whose `variables` are (name, values) in that order."""
    import tensorflow as tf

    root = tf.train.Checkpoint(**attributes)
    root.variables = [tf.Variable(values, name=name) for name, values in variables]
    signatures = {}
    if answer is not None:
        spec = tf.TensorSpec((None, 32, 32, 3), tf.float32)
        signatures = {"serving_default": tf.function(answer, input_signature=[spec])}
    tf.saved_model.save(root, str(folder), signatures=signatures)
    return folder


@pytest.mark.parametrize(
    ("toy", "folder"), [("vit_ft", "savedmodel_vit_ft"), ("mixer_small", "savedmodel_mixer_small")]
)
def test_the_golden_exports(toy, folder):
    kind = toy.split("_")[0]
    subject = load(f"{kind}@{GOLDEN / folder}")
    with np.load(GOLDEN / f"{toy}_io.npz") as expected:
        out = subject.model(expected["x"])
        np.testing.assert_allclose(out["head/logits"], expected["logits"], rtol=0, atol=1e-5)
        for key in (key for key in expected if key.startswith("attn/")):
            block = int(key.rpartition("_")[2])
            np.testing.assert_allclose(out[f"block{block:02}/attn/probs"], expected[key], rtol=0, atol=5e-5)
            path = f"act/Transformer/encoderblock_{block}"
            np.testing.assert_allclose(out[f"block{block:02}/resid/post"], expected[path], rtol=0, atol=5e-5)
    assert sha(f"{kind}@{GOLDEN / toy}.npz") == subject.provenance["weights_sha256"]
    report = verify(f"{kind}@{GOLDEN / folder}")
    assert report.agrees
    assert "logits" in report.lines[1]


@pytest.mark.parametrize(("toy", "classes"), [("vit_pre", 0), ("vit_pre", 7), ("hybrid", 7), ("mixer", 0)])
def test_positions_are_those_of_sorted_keys(toy, classes, tmp_path):
    arrays = linen(released(toy, classes)) if toy != "mixer" else released(toy, classes)
    ordered = sorted(arrays, key=lambda key: key.split("/"))
    assert ordered == positions(TOYS[toy][0], classes)
    folder = export(tmp_path / toy, [("Variable", arrays[key]) for key in ordered])
    assert sha(f"{family(toy)}@{folder}") == sha(f"{family(toy)}@{save(tmp_path / 'x.npz', arrays)}")


def test_block_10_stands_before_block_2(tmp_path):
    names = positions(ViTSpec(8, 24, 12, 3, 40), 7)
    blocks = list(dict.fromkeys(name.split("/")[1] for name in names if "encoderblock" in name))
    assert [block.rpartition("_")[2] for block in blocks] == [
        "0",
        "1",
        "10",
        "11",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
    ]


@pytest.mark.parametrize("prefix", ["", "keras_layer/"])
def test_bit_by_name_in_any_order(prefix, tmp_path):
    arrays = released("bit")
    folder = export(tmp_path / "bit", [(prefix + key, arrays[key]) for key in sorted(arrays, reverse=True)])
    assert sha(f"bit@{folder}") == sha(f"bit@{save(tmp_path / 'x.npz', arrays)}")


@pytest.mark.parametrize("classes", [0, 7])
def test_bit_by_order_where_names_are_not_unique(classes, tmp_path):
    arrays = released("bit", classes)
    keys = ["resnet/root_block/standardized_conv2d/kernel"]
    for unit in ("block1/unit01", "block2/unit01", "block2/unit02"):  # the public code makes the projection last
        for part in "abc":
            keys += [f"resnet/{unit}/{part}/group_norm/{leaf}" for leaf in ("gamma", "beta")]
            keys += [f"resnet/{unit}/{part}/standardized_conv2d/kernel"]
        keys += [key for key in arrays if f"{unit}/a/proj" in key]
    keys += ["resnet/group_norm/gamma", "resnet/group_norm/beta"]
    values = {**arrays}
    if classes:
        keys += ["resnet/head/conv2d/kernel", "resnet/head/conv2d/bias"]
        values["resnet/head/conv2d/kernel"] = values["resnet/head/conv2d/kernel"][0, 0]  # a dense layer there
    assert sorted(keys) == sorted(arrays)
    folder = export(tmp_path / "bit", [("/".join(key.split("/")[-2:]), values[key]) for key in keys])
    assert sha(f"bit@{folder}") == sha(f"bit@{save(tmp_path / 'x.npz', arrays)}")


def deit(distilled, depth=2, counter=30):
    """Names and values as deit-tf's models list them, and the same as an npz of ViT would hold them."""
    arrays = released("vit")
    if distilled:
        arrays["dist"] = seeded.draw("dist", (1, 1, 24))
        key = "Transformer/posembed_input/pos_embedding"
        arrays[key] = seeded.draw("other", (1, 18, 24))
        arrays |= {f"head_dist/{leaf}": arrays[f"head/{leaf}"] + 1 for leaf in ("kernel", "bias")}
    named = [(f"conv_projection/{leaf}", arrays[f"embedding/{leaf}"]) for leaf in ("kernel", "bias")]
    for i in range(depth):
        block, n = f"Transformer/encoderblock_{i}", counter + 2 * i
        attention = f"{block}/MultiHeadDotProductAttention_1"
        named += norm(f"layer_normalization_{n}", arrays, f"{block}/LayerNorm_0")
        for part in ("query", "key", "value"):
            name = f"tf_vi_t_attention_{counter + i}/attention/{part}"
            named += [(f"{name}/kernel", arrays[f"{attention}/{part}/kernel"].reshape(24, 24))]
            named += [(f"{name}/bias", arrays[f"{attention}/{part}/bias"].reshape(24))]
        name = f"tf_vi_t_attention_{counter + i}/output/dense"
        named += [(f"{name}/kernel", arrays[f"{attention}/out/kernel"].reshape(24, 24))]
        named += [(f"{name}/bias", arrays[f"{attention}/out/bias"])]
        named += norm(f"layer_normalization_{n + 1}", arrays, f"{block}/LayerNorm_2")
        for j in range(2):
            part = f"{block}/MlpBlock_3/Dense_{j}"
            named += [(f"dense_{n + j}/{leaf}", arrays[f"{part}/{leaf}"]) for leaf in ("kernel", "bias")]
    named += norm("layer_normalization_9", arrays, "Transformer/encoder_norm")  # a lower counter, yet the last
    named += [(f"classification_head/{leaf}", arrays[f"head/{leaf}"]) for leaf in ("kernel", "bias")]
    if distilled:
        named += [(f"distillation_head/{leaf}", arrays[f"head_dist/{leaf}"]) for leaf in ("kernel", "bias")]
        named += [("dist_token", arrays["dist"])]
    named += [("pos_embedding", arrays["Transformer/posembed_input/pos_embedding"]), ("cls", arrays["cls"])]
    return named, arrays


def norm(name, arrays, key):
    return [(f"{name}/gamma", arrays[f"{key}/scale"]), (f"{name}/beta", arrays[f"{key}/bias"])]


@pytest.mark.parametrize("distilled", [False, True])
def test_deit_by_kind_and_order(distilled, tmp_path):
    import tensorflow as tf

    named, arrays = deit(distilled)
    folder = export(tmp_path / "deit", named, lambda x: {"output_2_att": tf.zeros((tf.shape(x)[0], 3, 18, 18))})
    subject = load(f"deit@{folder}")
    known = subject.provenance
    assert known["family"] == "deit"
    assert subject.preprocessing.values == "imagenet"
    assert ("head/logits_dist" in subject.taps) == distilled
    assert sha(f"deit@{save(tmp_path / 'x.npz', arrays)}") == known["weights_sha256"]
    assert subject.model.output["block00/attn/probs"].shape[1] == 3, "the signature tells the heads"


def test_verify_sees_a_graph_that_computes_something_else(tmp_path):
    path = save(tmp_path / "x.npz", linen(released("vit")))
    model = load(f"vit@{path}").model
    arrays = dict(np.load(path))
    ordered = [("Variable", arrays[key]) for key in sorted(arrays, key=lambda key: key.split("/"))]

    def changed(images):
        return {"output_0": model(images)["head/logits"] + 1e-3}

    folder = export(tmp_path / "changed", ordered, changed, model=model)
    report = verify(f"vit@{folder}")
    assert report.agrees is False
    assert "absolute 0.001" in report.lines[2]


def test_counts_of_an_npz(tmp_path):
    report = verify(f"vit@{save(tmp_path / 'x.npz', released('vit'))}")
    assert report.agrees
    assert "40" in report.lines[1]


def refused(spec):
    with pytest.raises(BadInput) as caught:
        load(str(spec))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_folders_are_refused(tmp_path):
    assert "no saved_model.pb" in refused(f"vit@{tmp_path}")
    broken = Path(shutil.copytree(GOLDEN / "savedmodel_vit_ft", tmp_path / "broken"))
    data = broken / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:5000])
    assert "fetch it again" in refused(f"vit@{broken}")
    (broken / "variables" / "variables.index").write_bytes(b"nothing")
    assert "cannot be read" in refused(f"vit@{broken}")
    assert "vit_b32 is a ViT with patch 32" in refused(f"vit_b32@{GOLDEN / 'savedmodel_vit_ft'}")
    assert "no BiT-ResNet" in refused(f"bit_r50x1@{GOLDEN / 'savedmodel_vit_ft'}")
    strange = export(tmp_path / "strange", [("a", np.zeros(3, np.float32))])
    assert "no export" in refused(f"vit@{strange}")


def test_a_handle_is_found_in_the_hub_cache_without_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://tfhub.dev/sayakpaul/toy/1"
    shutil.copytree(GOLDEN / "savedmodel_vit_ft", tmp_path / hashlib.sha1(handle.encode()).hexdigest())
    assert sha(f"vit@{handle}") == sha(f"vit@{GOLDEN / 'savedmodel_vit_ft'}")


def test_without_network_a_remote_name_is_one_line(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("TF_VITCNN_CACHE", str(tmp_path))
    assert "cannot be fetched (no network)" in refused("vit_b32@gs://vit_models/imagenet21k/ViT-B_32.npz")
    assert "cannot be fetched (no network)" in refused("vit_b32")
    assert "expected kaggle:owner/model" in refused("vit_b32@kaggle:nobody")
