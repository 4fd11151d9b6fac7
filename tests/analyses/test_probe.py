import hashlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.linear_model import RidgeClassifier

from tests import synthetic, toys
from tests.known import known
from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import Batch, drawings_of
from tf_vitcnn.analyses.layout import Grid
from tf_vitcnn.analyses.probe import analysis as probe
from tf_vitcnn.analyses.probe import fit
from tf_vitcnn.analyses.probe.claims import layer_at
from tf_vitcnn.analyses.probe.features import Reader, _brought, readers
from tf_vitcnn.analyses.probe.split import few_shot, split
from tf_vitcnn.data.sources import batches, open_source
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ResNetSpec, ViTSpec
from tf_vitcnn.stats import ridge
from tf_vitcnn.tables.write import write_table
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.evidence import Result

TAP = "block01/resid/post"


@pytest.fixture(scope="module")
def vit():
    spec = ViTSpec(patch=4, width=12, depth=2, heads=2, mlp=24)
    return toys.ours("toy", spec, (8, 8), classes=10)


@pytest.fixture(scope="module")
def resnet():
    return toys.ours("bit", ResNetSpec(units=(1, 1, 1, 1), width_factor=1), (32, 32), classes=10)


# --- features ---


def test_readouts_of_tokens(vit):
    x = np.random.default_rng(0).normal(size=(3, 5, 12)).astype("float32")
    (reader,) = readers(vit, [TAP], ("gap_spatial", "token002", "cls", "gap"), False, True)
    assert reader.names == ("cls", "token002", "gap", "gap_spatial")
    expected = [x[:, 0], x[:, 3], x.mean(1), x[:, 1:].mean(1)]
    np.testing.assert_allclose(reader(x), expected, atol=1e-6)
    (every,) = readers(vit, [TAP], (), True, True)
    assert every.names == ("cls", "token000", "token001", "token002", "token003", "gap")
    assert every.tokens == [1, 2, 3, 4]
    with pytest.raises(BadInput, match="unknown readout of block01/resid/post 'token004'"):
        readers(vit, [TAP], ("token004",), False, True)


@pytest.mark.parametrize(
    ("side", "channels", "block"), [(56, 256, 2), (28, 512, 2), (14, 1024, 1), (7, 2048, 1), (56, 64, 4)]
)
def test_patching_brings_maps_to_the_last_stages_grid_and_width(side, channels, block):
    final = Grid(7, 7, (), 2048, "map")
    found, grid = _brought(Grid(side, side, (), channels, "map"), final, True)
    assert (found, grid.rows, grid.cols) == (block, 7, 7)
    assert grid.channels == block**2 * channels <= 2048
    assert _brought(Grid(side, side, (), channels, "map"), final, False)[0] == 1


def test_patched_and_pooled_features():
    source, grid = Grid(8, 8, (), 3, "map"), Grid(2, 2, (), 12, "map")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    names = (*grid.names, "gap")
    found = Reader("stage1/unit00/resid/post", names, source, grid, 2)(x).numpy()
    cells = x.reshape(2, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 4, 12)
    pooled = cells.reshape(2, 2, 2, 2, 2, 12).mean((2, 4)).reshape(2, 4, 12)
    np.testing.assert_allclose(found, [*pooled.transpose(1, 0, 2), x_mean := pooled.mean(1)], atol=1e-6)
    np.testing.assert_allclose(x_mean, cells.mean((1, 2)), atol=1e-6)


# --- which images ---


def test_shots_per_class_are_nested_and_seeded():
    label = np.repeat(np.arange(4), [50, 30, 3, 20])
    drawn = np.random.default_rng(0).permutation(len(label))
    five, ten = few_shot(label, drawn, 5), few_shot(label, drawn, 10)
    assert np.bincount(label[five]).tolist() == [5, 5, 3, 5]
    assert set(five) < set(ten)
    assert few_shot(label, drawn, "all").tolist() == drawn.tolist()
    assert len(few_shot(np.where(label == 3, -1, label), drawn, "all")) == 83  # no label, no use


def test_held_out_is_a_stratified_tenth():
    label = np.repeat(np.arange(5), 10)
    drawn = np.random.default_rng(0).permutation(50)
    one, same, other = (split(label, drawn, seed, 10, "npz:x") for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.indices, same.indices)
    assert set(one.indices[one.roles == 1]) != set(other.indices[other.roles == 1])
    assert np.bincount(label[one.indices[one.roles == 1]]).tolist() == [1] * 5
    assert sorted(one.indices) == list(range(50))
    few = split(np.arange(4), np.arange(4), 0, 1, "npz:x")  # one shot of four classes: still one image to choose by
    assert few.roles.tolist() == [0, 0, 0, 1]


def test_cifar_is_split_as_in_the_paper():
    label = np.zeros(50000, int)
    picked = split(label, np.random.default_rng(0).permutation(50000), 0, "all", "cifar10:train")
    assert set(picked.indices[picked.roles == 1]) == set(range(45000, 50000))


def test_no_labels_and_too_few():
    with pytest.raises(BadInput, match="no labels"):
        split(None, np.arange(5), 0, 10, "noise")
    with pytest.raises(BadInput, match="at least 2"):
        split(np.zeros(1, int), np.arange(1), 0, 10, "x")


# --- sums ---


def batch_of(label, role, weight):
    label, role = np.asarray(label, "int32"), np.asarray(role, "int32")
    return Batch(None, tf.constant(label), tf.constant(weight, tf.float32), None, tf.constant(role))


@pytest.mark.parametrize("offset", [0, 1e3])
def test_streamed_float32_sums_give_the_probe_of_all_at_once(offset):
    rng = np.random.default_rng(0)
    n, p, classes = 64, 6, 3
    label, role = rng.integers(0, classes, n), (np.arange(n) >= 56).astype(int)
    x = (rng.normal(size=(n, p)) + label[:, None] + offset).astype("float32")
    reader = Reader(TAP, ("gap",), Grid(1, 1, (), p, "vector"), Grid(1, 1, (), p, "vector"), 1)
    constants = {f"pivot/{TAP}": x[None, :8].mean(1)}
    totals = {}
    for i in range(0, n, 8):
        # two rows of padding hold anything
        values = np.concatenate([x[i : i + 8], np.full((2, p), np.nan)]).astype("float32")[None]
        batch = batch_of([*label[i : i + 8], 0, 0], [*role[i : i + 8], 0, 0], [1] * 8 + [0] * 2)
        sums = fit.sums({reader: tf.constant(values)}, batch, constants, classes)
        totals = {k: totals.get(k, 0) + v.numpy().astype("float64") for k, v in sums.items()}
    found = fit.solve([reader], totals, constants, classes)
    exact = ridge.fit_rows(x.astype("float64"), label, role == 1, classes)
    assert found[f"l2/{TAP}"][0] == exact.l2
    scores = (x - found[f"pivot/{TAP}"][0]) @ found[f"weights/{TAP}"][0] + found[f"bias/{TAP}"][0]
    np.testing.assert_allclose(scores, exact.scores(x.astype("float64")), atol=1e-4)
    np.testing.assert_allclose(found[f"weights/{TAP}"][0], exact.weights, atol=1e-5)


# --- whole runs ---


@pytest.fixture(scope="module")
def table(vit):
    return run("probe", vit, "digits:train", test="digits:test", tokens="each", readouts=("cls", "gap"))


def features(subject, spec):
    source = open_source(spec)
    ((images, label),) = list(batches(source, np.arange(source.size), (subject.preprocessing,), source.size))
    tokens = subject.expose([TAP])(images[0])[TAP].numpy().astype("float64")
    return tokens, np.asarray(label)


def test_equals_scikit_learn_on_the_same_features(vit, table):
    tokens, label = features(vit, "digits:train")
    test, test_label = features(vit, "digits:test")
    from tf_vitcnn.data.sources import draw

    drawn = draw(open_source("digits:train"), len(label), 0)
    chosen = few_shot(label, drawn, 10)
    mine = table[table.layer == TAP].set_index("readout")
    reads = {"cls": lambda x: x[:, 0], "gap": lambda x: x.mean(1), "token003": lambda x: x[:, 4]}
    for readout, read in reads.items():
        fit = RidgeClassifier(alpha=mine.l2[readout]).fit(read(tokens[chosen]), label[chosen])
        # a test image whose two best scores are equal to rounding may fall either way
        right = (fit.predict(read(test)) == test_label).mean()
        assert mine.accuracy[readout] == pytest.approx(right, abs=1.5 / len(test_label))


def test_mean_token_is_the_mean_of_the_spatial_tokens(table):
    for _, layer in table.groupby("layer"):
        rows = layer.set_index("readout")
        single = rows.accuracy[[f"token{i:03d}" for i in range(4)]]
        assert rows.accuracy["mean_token"] == pytest.approx(single.mean(), abs=1e-6)
        assert rows.accuracy_lo["mean_token"] < single.mean() < rows.accuracy_hi["mean_token"]
        assert np.isnan(rows.l2["mean_token"])
    assert (table.accuracy_lo <= table.accuracy).all()
    assert (table.accuracy <= table.accuracy_hi).all()


def test_rows_and_sums_and_groups_of_layers_agree(vit, table, monkeypatch):
    monkeypatch.setattr(probe.Plan, "as_rows", lambda plan, reader: False)
    fields = {"test": "digits:test", "tokens": "each", "readouts": ("cls", "gap")}
    sums = run("probe", vit, "digits:train", batch=7, **fields)
    pd.testing.assert_frame_equal(sums, table, atol=3 / 359, rtol=0)
    monkeypatch.setattr(probe, "GROUP_SHARE", 1e-9)
    grouped = run("probe", vit, "digits:train", batch=7, **fields)
    pd.testing.assert_frame_equal(grouped, sums)
    assert "in 2 passes over groups of layers" in " ".join(grouped.attrs["sidecar"]["notes"])


def test_only_the_average_over_tokens(vit, table):
    found = run("probe", vit, "digits:train", test="digits:test", readouts=("mean_token",), taps=TAP)
    assert found.readout.tolist() == ["mean_token"]
    assert found.accuracy[0] == table.query("layer == @TAP and readout == 'mean_token'").accuracy.item()


def test_weights_are_kept_and_used_again(vit, tmp_path):
    fitted = run("probe", vit, "digits:train", test="digits:test", keep_weights=True)
    write_table(tmp_path / "toy", fitted, fitted.attrs["sidecar"])
    path = tmp_path / "toy.weights.npz"
    again = run("probe", vit, "digits:test", weights=str(path))
    pd.testing.assert_frame_equal(again, fitted)
    recorded = again.attrs["sidecar"]["parameters"]["weights_sha256"]
    assert recorded == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "weights_sha256" not in fitted.attrs["sidecar"]["parameters"]
    one = run("probe", vit, "digits:test", weights=str(path), taps=TAP)
    assert one.layer.unique().tolist() == [TAP]
    with pytest.raises(BadInput, match="no kept probe for stem/embed"):
        run("probe", vit, "digits:test", weights=str(path), taps="stem/embed")
    (tmp_path / "bad.npz").write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match="not probes"):
        run("probe", vit, "digits:test", weights=str(tmp_path / "bad.npz"))
    with pytest.raises(BadInput, match="no such file"):
        run("probe", vit, "digits:test", weights=str(tmp_path / "none.npz"))


def test_locations_of_a_resnet(resnet):
    fields = {"test": "digits:test", "shots": 3, "readouts": ("gap", "mean_token"), "tokens": "each"}
    found = run("probe", resnet, "digits:train", taps="stage[14]/*/resid/post", **fields)
    assert set(found.readout) == {"token000", "gap", "mean_token"}  # the last stage's grid is 1 x 1 here
    assert len(found) == 6


def test_a_class_without_examples_and_a_lone_class(vit, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    for name, label in (("gap", np.arange(24) % 2 * 3), ("lone", np.full(24, 2))):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=label)
        spec = f"npz:{tmp_path}/{name}.npz"
        found = run("probe", vit, spec, test=spec, shots="all", readouts=("cls",), taps=TAP)
        assert found.accuracy[0] >= (1 if name == "lone" else 0.5)


def test_what_is_refused(vit, tmp_path):
    with pytest.raises(BadInput, match="--test names the test images"):
        run("probe", vit, "digits:train")
    with pytest.raises(BadInput, match="needs labels"):
        run("probe", vit, "noise:8", test="digits:test")
    with pytest.raises(BadInput, match="noise:8 has no labels"):
        run("probe", vit, "digits:train", test="noise:8")
    with pytest.raises(BadInput, match="--shots"):
        run("probe", vit, "digits:train", test="digits:test", shots=0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "one.png")
    with pytest.raises(BadInput, match="same classes"):
        run("probe", vit, "digits:train", test=f"folder:{tmp_path}")


# --- claims and charts ---


def curve(name, kind, readouts, patching="paper", **more):
    """A probe table with accuracies {readout: one value per layer}."""
    blocks = len(next(iter(readouts.values())))
    who = synthetic.subject(name, kind, blocks=(1,) * blocks if kind == "bit" else blocks, **more)
    rows = [
        {"model": name, "depth": depth, "layer": layer, "readout": r, "accuracy": a, "l2": 1.0}
        for r, values in readouts.items()
        for (depth, layer), a in zip(synthetic.ends(who), values, strict=True)
    ]
    table = pd.DataFrame(rows).assign(accuracy_lo=lambda t: t.accuracy - 0.01, accuracy_hi=lambda t: t.accuracy + 0.01)
    parameters = {"shots": 10, "data": "digits:train", "test": "digits:test", "patching": patching}
    record = synthetic.sidecar("probe", who, **parameters)
    return Result(probe.Probe.schema.check(table), record, f"{name}.csv")


def verdicts(*results):
    return {v.claim.id: v.word for v in judge([known(r) for r in results], probe.Probe.claims) if v.word != "untested"}


def test_layer_at_a_share_of_depth():
    result = curve("v", "vit", {"cls": np.linspace(0.1, 0.8, 12)})
    assert [layer_at(result, s) for s in (0.25, 0.5, 1)] == [f"block{i:02d}/resid/post" for i in (2, 5, 11)]


def test_claims():
    cls = curve("c", "vit", {"cls": [0.2, 0.4, 0.6, 0.8], "mean_token": [0.1, 0.2, 0.3, 0.3]})
    pooled = {"gap": [0.2, 0.4, 0.6, 0.8], "mean_token": [0.1, 0.2, 0.5, 0.7], "token000": [0.1, 0.1, 0.5, 0.75]}
    gap = curve("g", "gap", pooled)
    res = curve("r", "bit", {"gap": [0.2, 0.3, 0.5, 0.78], "mean_token": [0.05, 0.2, 0.4, 0.7]})
    bare = curve("n", "bit", {"gap": [0.18, 0.3, 0.5, 0.78]}, patching="none", weights="r")
    less = curve("l", "vit", {"cls": [0.2, 0.3, 0.4, 0.5]}, training_images=1000)
    assert verdicts(cls, gap) == {"cls-model-tokens-poor": "holds", "gap-tokens-alike": "holds"}
    assert verdicts(res) == {"resnet-locations-good-late": "holds"}
    assert verdicts(res, bare)["patching-hardly-matters"] == "holds"
    assert verdicts(cls, less) == {"more-data-better-middle": "holds"}
    assert verdicts(cls, res)["bigger-vit-better-middle"] == "holds"
    assert "bigger-vit-better-middle" not in verdicts(less, res)


def test_locations_of_a_grid_with_one_are_not_judged():
    same = {"gap": [0.2, 0.3, 0.5, 0.78], "mean_token": [0.2, 0.3, 0.5, 0.78]}
    small = curve("r", "bit", same, size=32)
    (verdict,) = [v for v in judge([small], probe.Probe.claims) if v.claim.id == "resnet-locations-good-late"]
    assert verdict.word == "untested" and "one location" in verdict.note


def test_charts(table):
    panels = analyses.chart(table, "probe").to_dict()["concat"]
    assert len(panels) == 4  # class token, mean, the first single token and all of them averaged
    assert all("layer" in panel for panel in panels)
    maps = drawings_of(probe.Probe)[1]
    assert "facet" in maps.draw(table).to_dict()
    assert maps.fits(table.attrs["sidecar"])
