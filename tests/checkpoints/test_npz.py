import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tests.golden import official, seeded
from tests.written import TOYS, family, released, save, save_header
from tf_vitcnn import load, models
from tf_vitcnn.checkpoints.assign import fingerprint, weights_of
from tf_vitcnn.checkpoints.layouts import count, rows
from tf_vitcnn.checkpoints.resample import resampled
from tf_vitcnn.errors import BadInput


def sha(spec, **flags):
    return load(str(spec), **flags).provenance["weights_sha256"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Every toy as released: its spec string and the fingerprint of its weights."""
    folder = tmp_path_factory.mktemp("plain")
    specs = {toy: f"{family(toy)}@{save(folder / f'{toy}.npz', released(toy))}" for toy in TOYS}
    return {toy: (spec, sha(spec)) for toy, spec in specs.items()}


@pytest.mark.parametrize("toy", TOYS)
def test_the_layout_is_the_models(toy):
    spec, size = TOYS[toy]
    model = models.build(spec, image_size=size, classes=7, seed=None)
    expected = {row.target: np.prod(row.shape) for row in rows(spec, (size, size), 7)}
    assert {path: np.prod(weight.shape) for path, weight in weights_of(model)} == expected
    assert count(spec, (size, size), 7) == model.count_params()


@pytest.mark.parametrize("toy", TOYS)
def test_every_weight_goes_where_an_independent_mapping_puts_it(toy, plain):
    spec, size = TOYS[toy]
    model = models.build(spec, image_size=size, classes=7, seed=None)
    arrays = released(toy)
    official.assign(model, arrays)
    assert fingerprint(model, toy) == plain[toy][1]


def test_sizes_are_read_from_the_arrays(plain):
    subject = load(plain["hybrid"][0])
    known = subject.provenance
    assert (known["family"], known["patch_size"], known["depth"], known["pool"]) == ("hybrid", 8, 1, "cls")
    assert subject.name == "hybrid"
    assert known["image_size"] == [32, 32]
    assert known["parameters"] == subject.model.count_params()
    assert subject.preprocess(np.zeros((2, 50, 60, 3), np.uint8)).shape == (2, 32, 32, 3)
    assert float(np.max(subject.preprocess(np.zeros((1, 50, 60, 3), np.uint8)))) == -1


def test_logits_of_a_released_layout_are_the_official_ones(tmp_path):
    name = "ViT-Ti_16@1k_224"
    subject = load(f"vit_ti16@{save(tmp_path / f'{name}.npz', seeded.weights(name))}")
    with np.load(seeded.HERE / f"{name}.npz") as expected:
        logits = subject.model(seeded.images(2, 224))["head/logits"]
        np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-4)


def linen(arrays):
    names = {"LayerNorm_2": "LayerNorm_1", "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0"}
    names["MlpBlock_3"] = "MlpBlock_0"

    def rename(key):
        return "/".join(names.get(part, part) for part in key.split("/"))

    return {rename(key): value for key, value in arrays.items()}


def prefixed(prefix, arrays, **others):
    return {prefix + key: value for key, value in arrays.items()} | others


def stacked(arrays):
    depth = 1 + max(int(key.split("_")[1].split("/")[0]) for key in arrays if "encoderblock_" in key)
    first = [key for key in arrays if "encoderblock_0/" in key]
    result = {key: value for key, value in arrays.items() if "encoderblock_" not in key}
    for key in first:
        layers = [arrays[key.replace("encoderblock_0", f"encoderblock_{i}")] for i in range(depth)]
        result[key.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    return result


def moved(name, arrays):
    old = "Transformer/posembed_input/pos_embedding"
    return {name if key == old else key: value for key, value in arrays.items()}


def four_axes(arrays):
    return {key: value[None, None, None] if "/gn" in f"/{key}" else value for key, value in arrays.items()}


def fortran(arrays):
    return {key: np.asfortranarray(value) for key, value in arrays.items()}


def numbered(arrays):
    def rename(i, key):
        return key.replace("standardized_conv2d", f"standardized_conv2d_{i}").replace("group_norm", f"group_norm_{i}")

    return {rename(i, key): value for i, (key, value) in enumerate(arrays.items())}


def legacy(arrays):
    """big_vision's old Mixer."""
    swap = {"Dense_0/kernel": "kernel1", "Dense_0/bias": "bias1", "Dense_1/kernel": "kernel2", "Dense_1/bias": "bias2"}
    result = {}
    for key, value in arrays.items():
        key = key.replace("MixerBlock_", "Mixer/encoderblock_").replace("pre_head_layer_norm", "Mixer/encoder_norm")
        key = key.replace("stem/", "embedding/").replace("LayerNorm_1", "LayerNorm_2")
        for kind in ("token_mixing", "channel_mixing"):
            for new, old in swap.items():
                key = key.replace(f"{kind}/{new}", f"{kind}_phase_0/{old}")
        result[key] = value[None] if key.endswith(("kernel1", "kernel2")) else value
    return result


STATE = {"opt/state/step": np.int32(3), "opt/state/param_states/cls/grad_ema": np.zeros((1, 1, 24), np.float32)}
LAYOUTS = {
    "linen": ("vit", linen),
    "opt/target": ("vit", lambda a: prefixed("opt/target/", a, **STATE)),
    "params": ("vit", lambda a: prefixed("params/", linen(a), **STATE)),
    "params/img": (
        "vit",
        lambda a: prefixed("params/img/", linen(a), **{"params/txt/cls": a["cls"], "params/t": a["cls"]}),
    ),
    "stacked": ("vit", lambda a: stacked(linen(a))),
    "stacked, prefix": ("vit", lambda a: prefixed("params/", stacked(a))),
    "Transformer/pos_embedding": ("vit", lambda a: moved("Transformer/pos_embedding", a)),
    "top pos_embedding": ("vit", lambda a: moved("pos_embedding", a)),
    "top pos_embedding, gap": ("vit_gap", lambda a: moved("pos_embedding", linen(a))),
    "float64": ("vit", lambda a: {key: value.astype("f8") for key, value in a.items()}),
    "big-endian": ("vit", lambda a: {key: value.astype(">f4") for key, value in a.items()}),
    "fortran": ("vit", fortran),
    "norms with four axes": ("hybrid", four_axes),
    "stem, four axes": ("stem_only", lambda a: four_axes(linen(a))),
    "numbered": ("bit", numbered),
    "bit, four axes": (
        "bit",
        lambda a: {k: v[None, None, None] if v.ndim == 1 and "norm" in k else v for k, v in a.items()},
    ),
    "optimizer beside": ("vit", lambda a: a | STATE),
    "variables": ("bit", lambda a: {f"keras_layer/{key}:0": value for key, value in a.items()}),
    "mixer, opt/target": ("mixer", lambda a: prefixed("opt/target/", a, **STATE)),
    "mixer, legacy": ("mixer", legacy),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_holds_the_same_weights(layout, plain, tmp_path):
    toy, change = LAYOUTS[layout]
    path = save(tmp_path / "x.npz", change(released(toy)))
    assert sha(f"{family(toy)}@{path}") == plain[toy][1]


def test_compressed_files_are_read(plain, tmp_path):
    np.savez_compressed(tmp_path / "x.npz", **released("vit"))
    assert sha(f"vit@{tmp_path / 'x.npz'}") == plain["vit"][1]


@pytest.mark.parametrize("raw", ["V2", "u2"])
def test_bfloat16_comes_as_two_raw_bytes(raw, tmp_path):
    arrays = released("vit")
    upper = {key: (value.view("u4") >> 16).astype("u2") for key, value in arrays.items()}
    exact = {key: (value.astype("u4") << 16).view("f4") for key, value in upper.items()}
    as_stored = save(tmp_path / "raw.npz", {key: value.view(raw) for key, value in upper.items()})
    assert sha(f"vit@{as_stored}") == sha(f"vit@{save(tmp_path / 'exact.npz', exact)}")


def test_a_class_token_that_had_no_position_gets_none(tmp_path):
    arrays = released("vit")
    key = "Transformer/posembed_input/pos_embedding"
    without = {**arrays, "pos_embedding": arrays[key][:, 1:]}
    del without[key]
    expected = {**arrays, key: np.concatenate([np.zeros((1, 1, 24), np.float32), arrays[key][:, 1:]], 1)}
    paths = [save(tmp_path / f"{i}.npz", a) for i, a in enumerate((without, expected))]
    assert sha(f"vit@{paths[0]}") == sha(f"vit@{paths[1]}")


@pytest.mark.parametrize("toy", ["vit", "vit_pre", "bit", "mixer"])
def test_without_a_head_there_are_no_logits(toy, plain, tmp_path):
    arrays = {key: value for key, value in released(toy).items() if "head/" not in key.replace("pre_head", "")}
    subject = load(f"{family(toy)}@{save(tmp_path / 'x.npz', arrays)}")
    assert subject.taps[-1] == ("head/pre_logits" if toy == "vit_pre" else "head/pooled")


def test_positions_interpolate_with_the_corners_kept():
    ramp = np.arange(3)[:, None] + 10 * np.arange(3)[None]  # linear along rows and columns
    positions = np.concatenate([[-7], ramp.reshape(-1)]).astype("f4").reshape(1, 10, 1)
    new = resampled(positions, 1, (5, 9))
    assert new[0, 0, 0] == -7
    expected = np.linspace(0, 2, 5)[:, None] + 10 * np.linspace(0, 2, 9)[None]
    np.testing.assert_allclose(new[0, 1:, 0].reshape(5, 9), expected, atol=1e-5)


def test_other_image_sizes(plain):
    wide = load(plain["vit"][0], image_size=(32, 48))
    assert wide.model.output["stem/tokens"].shape == (None, 1 + 4 * 6, 24)
    assert wide.preprocessing.size == (32, 48)
    assert load(plain["bit"][0], image_size=48).model.input.shape == (None, 48, 48, 3)
    with pytest.raises(BadInput, match="fixes the image size"):
        load(plain["mixer"][0], image_size=64)


def refused(spec):
    with pytest.raises(BadInput) as caught:
        load(str(spec))
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_mismatch_lists_both_sides(tmp_path):
    arrays = released("vit")
    del arrays["Transformer/encoderblock_1/LayerNorm_2/scale"]
    del arrays["Transformer/encoderblock_0/MlpBlock_3/Dense_1/bias"]
    arrays["extra/kernel"] = np.zeros(3, np.float32)
    arrays["head/bias"] = np.zeros(8, np.float32)
    for change, missing in ((dict, "LayerNorm_2"), (linen, "LayerNorm_1")):
        line = refused(f"vit@{save(tmp_path / 'x.npz', change(arrays))}")
        assert "2 missing: " in line
        assert f"Transformer/encoderblock_1/{missing}/scale" in line, "as this file would spell it"
        assert "1 surplus: extra/kernel" in line
        assert "head/bias has (8,), expected (7,)" in line


def test_a_huge_number_in_a_name_is_no_deep_network(tmp_path):
    for toy, name in (("vit", "Transformer/encoderblock_999999999/x"), ("bit", "resnet/block1/unit99999999/x")):
        arrays = released(toy) | {name: np.zeros(3, np.float32)}
        assert "missing" in refused(f"{toy}@{save(tmp_path / 'x.npz', arrays)}")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(bad, tmp_path):
    arrays = released("vit")
    arrays["Transformer/encoder_norm/scale"][3] = bad
    assert "Transformer/encoder_norm/scale: holds NaN" in refused(f"vit@{save(tmp_path / 'x.npz', arrays)}")


def test_integers_and_objects_are_refused(tmp_path):
    arrays = released("vit")
    arrays["cls"] = np.zeros((1, 1, 24), np.int32)
    assert "cls holds int32" in refused(f"vit@{save(tmp_path / 'x.npz', arrays)}")
    arrays["cls"] = np.array([{}], object)
    assert "nothing is unpickled" in refused(f"vit@{save(tmp_path / 'y.npz', arrays)}")


def test_damaged_files_are_refused(tmp_path):
    whole = save(tmp_path / "x.npz", released("vit")).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(f"vit@{tmp_path / 'cut.npz'}")
    at = whole.index(b"\x93NUMPY") + 200
    (tmp_path / "flipped.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert "damaged" in refused(f"vit@{tmp_path / 'flipped.npz'}")
    (tmp_path / "text.npz").write_text("hello")
    assert "not an .npz" in refused(f"vit@{tmp_path / 'text.npz'}")
    (tmp_path / "x.pth").write_bytes(whole)
    assert "unknown kind of file" in refused(f"vit@{tmp_path / 'x.pth'}")


def test_a_declaration_that_the_bytes_do_not_hold_is_refused_before_anything_is_allocated(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    path = save_header(tmp_path / "huge.npz", "embedding/kernel", header)
    assert "declares shape (1000000, 1000000)" in refused(f"vit@{path}")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tf_vitcnn.checkpoints.npz.SMALL", 2**20)
    np.savez_compressed(tmp_path / "bomb.npz", **{"embedding/kernel": np.zeros(2**20, np.float32)})
    assert "honest" in refused(f"vit@{tmp_path / 'bomb.npz'}")


def test_a_wrong_architecture_is_named(plain, tmp_path):
    path = plain["vit"][0].partition("@")[2]
    line = refused(f"vit_b32@{path}")
    assert "patch 8, width 24, depth 2" in line
    assert "patch 32, width 768" in line
    assert "expects a bit checkpoint" in refused(f"bit_r50x1@{path}")
    assert "no layout of" in refused(f"vit@{save(tmp_path / 'x.npz', {'a': np.zeros(3)})}")
    arrays = released("vit") | {"MAPHead_0/probe": np.zeros((1, 1, 24), np.float32)}
    assert "MAPHead_0" in refused(f"vit@{save(tmp_path / 'map.npz', arrays)}")


def test_unknown_names_come_with_the_choices():
    assert "did you mean 'vit_b32'" in refused("vit_b23")
    assert "imagenet21k" in refused("vit_b32@imagenet22k")
    assert "no such file" in refused("vit_b32@/nowhere/x.npz")
    assert "no released checkpoint" in refused("vit_h14_gap")
    assert "nothing after '@'" in refused("vit_b32@")


def test_random_weights_are_a_function_of_the_seed():
    first = load("vit_ti16@random", image_size=32, seed=1)
    other = load("vit_ti16@random", image_size=32, seed=2, name="mine")
    assert first.provenance["weights_sha256"] != other.provenance["weights_sha256"]
    assert first.provenance["random"]
    assert (first.name, other.name) == ("vit_ti16", "mine")


@pytest.mark.slow
def test_a_load_takes_little_more_memory_than_the_weights(tmp_path):
    spec = models.SPECS["vit_l16"]
    path, rng = tmp_path / "large.npz", np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for row in rows(spec, (224, 224), 1000):
            with archive.open(f"{row.key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, rng.standard_normal(row.shape, dtype=np.float32))
    code = (
        "import resource, sys, tf_vitcnn; tf_vitcnn.load(sys.argv[1]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    told = subprocess.run([sys.executable, "-c", code, f"vit_l16@{path}"], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 2.3 * path.stat().st_size
