"""Plans, fine-tuning, removed skips, other strategies and precisions, and refusals."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tf_vitcnn
from tests import synthetic
from tf_vitcnn.errors import BadInput
from tf_vitcnn.training import card, fit, plan
from tf_vitcnn.training.recipe import Recipe

EAGER = fit.Machine(jit=False)
TINY = Recipe(
    model="vit_custom", data="digits:train", epochs=1, fraction=0.05, patch=4, width=8, depth=2, heads=2, batch=40
)
COMMON = ["--data", "digits:train", "--val", "digits:test"]
SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


@pytest.fixture(scope="module")
def no_skip(tmp_path_factory):
    return fit.train(replace(TINY, no_skip=(1,), pool="gap"), tmp_path_factory.mktemp("trained"), "bare", EAGER)


def test_a_trained_model_loads_with_its_taps_its_preprocessing_and_its_past(no_skip):
    subject = tf_vitcnn.load(str(no_skip))
    assert subject.name == "bare" and subject.taps[0] == "stem/embed" and subject.taps[-1] == "head/logits"
    assert {"block01/attn/probs", "block01/resid/mid"} <= set(subject.taps)
    assert subject.preprocess(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 8, 8, 3)
    known = subject.provenance
    assert known["pool"] == "gap" and known["no_skip"] == [1] and known["training_images"] == 79
    assert known["trained_on"] == "digits:train" and known["random"] is False and known["family"] == "vit"
    assert set(synthetic.subject("vit").provenance) <= set(known)  # the tests' own records pretend to nothing more
    from tf_vitcnn import opening

    sums = [addition.sum for addition in opening.additions(subject.model)[0]]
    assert sums == ["block00/resid/mid", "block00/resid/post"]


def test_skip_ratio_leaves_a_block_without_skips_out(no_skip):
    table = tf_vitcnn.run("skip_ratio", tf_vitcnn.load(str(no_skip)), "digits:test", images=16)
    assert set(table.layer) == {"block00/attn/out", "block00/mlp/out"}


def test_fine_tuning_starts_from_the_given_weights_with_a_new_head(no_skip, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "three.npz", images=images, labels=np.arange(12) % 3)
    recipe = Recipe(data=f"npz:{tmp_path / 'three.npz'}", start=str(no_skip), epochs=0)
    path = fit.train(recipe, tmp_path, None, EAGER)
    assert path.name == "bare.keras"
    old, new = tf_vitcnn.load(str(no_skip)), tf_vitcnn.load(str(path))
    assert new.model.output["head/logits"].shape == (None, 3)
    x = old.preprocess(images)
    np.testing.assert_array_equal(old.model(x)["head/pooled"], new.model(x)["head/pooled"])
    assert new.provenance["finetuned_from"] == "bare" and new.provenance["no_skip"] == [1]
    with pytest.raises(BadInput, match="--width: the sizes are those of --from"):
        fit.train(replace(recipe, width=4), tmp_path, "other", EAGER)


REPLICAS = """
import dataclasses
import sys
import tests.conftest
import tensorflow as tf
from tests.training.test_more import TINY
from tf_vitcnn.training import fit

devices = [d.name for d in tf.config.list_logical_devices("CPU")[:2]]
recipe = dataclasses.replace(TINY, optimizer=sys.argv[2])
fit.train(recipe, sys.argv[1], "two", fit.Machine(strategy=tf.distribute.MirroredStrategy(devices), jit=False))
"""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_replicas_train_as_one_device_does(tmp_path, optimizer):
    one = fit.train(replace(TINY, optimizer=optimizer), tmp_path, "one", EAGER)
    # a process of its own: TensorFlow numbers collective operations per process, over all strategies that it had
    subprocess.run([sys.executable, "-c", REPLICAS, tmp_path, optimizer], check=True, cwd=SCRIPT.parents[1])
    two = tmp_path / "two.keras"
    off = np.abs(np.concatenate([(a - b).ravel() for a, b in zip(_weights(one), _weights(two), strict=True)]))
    # Adam makes a whole step of a gradient that is mere rounding (a key's bias has no other): two steps apart at most
    far = {"adamw": 1e-4, "muon": 1e-3}[optimizer]  # an orthogonal matrix answers it in all its entries
    assert np.mean(off > far) < 0.05 and off.max() < 0.02
    assert card.read(tmp_path / "two.card.json")["replicas"] == 2


@pytest.mark.parametrize(
    "precision, optimizer",
    [("bfloat16", "adamw"), ("bfloat16", "muon"), pytest.param("float16", "adamw", marks=pytest.mark.slow)],
)
def test_mixed_precision_leaves_a_float32_model(tmp_path, precision, optimizer):
    path = fit.train(replace(TINY, precision=precision, optimizer=optimizer), tmp_path, "mixed", EAGER)
    assert all(weight.dtype == np.float32 and np.isfinite(weight).all() for weight in _weights(path))
    assert tf_vitcnn.load(str(path)).model.output["block00/attn/q"].dtype == "float32"


def _weights(path):
    import keras

    import tf_vitcnn.models.layers  # noqa: F401  (registers the layers)

    return keras.models.load_model(path, compile=False).get_weights()


PLAN = """
[defaults]
data = "${KIND}:train"
epochs = 0
patch = 4
width = 8
depth = 2
heads = 2

[[run]]
name = "first"
model = "vit_custom"
no-skip = 1

[[run]]
name = "second"
model = "mixer_custom"
heads = 0
"""


def test_a_plan_trains_in_order_and_skips_what_is_there(tmp_path, monkeypatch):
    file = tmp_path / "plan.toml"
    file.write_text(PLAN.replace("heads = 0\n", "").replace("heads = 2\n", ""))
    with pytest.raises(BadInput, match=r"run 'first': \$\{KIND\} is not set"):
        list(plan.train_all(plan.read(file), tmp_path, EAGER))
    monkeypatch.setenv("KIND", "digits")
    paths = list(plan.train_all(plan.read(file), tmp_path, EAGER))
    assert [path.name for path in paths] == ["first.keras", "second.keras"]
    assert card.read(tmp_path / "first.card.json")["no_skip"] == [1]
    before = [path.stat().st_mtime_ns for path in paths]
    assert list(plan.train_all(plan.read(file), tmp_path, EAGER)) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert list(plan.train_all(plan.read(file), tmp_path, EAGER, only=["second"])) == paths[1:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[run]\n", "cannot be read as TOML"),
        ("x = 1\n[[run]]\nname = 'a'\n", "unknown table"),
        ("[[run]]\nmodel = 'vit_custom'\n", "each run needs a name"),
        ("[[run]]\nname = 'a'\nmodel = 'vit_custom'\ndata = 'digits:train'\nwidht = 3\n", "did you mean 'width'"),
        ("[[run]]\nname = 'a'\nmodel = 'vit_custom'\ndata = 'digits:train'\nwidth = '3'\n", "width = '3' does not fit"),
        ("[[run]]\nname = 'a'\nmodel = 'vit_custom'\n", "--data must be given"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused_before_anything_runs(tmp_path, text, message):
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        list(plan.train_all(plan.read(tmp_path / "plan.toml"), tmp_path, EAGER))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "noise"}, "no labels"),
        ({"patch": 3}, "patches of 3 pixels must tile them"),
        ({"no_skip": (2,)}, "--no-skip 2: vit_custom has blocks 0 to 1"),
        ({"heads": 3}, "--heads 3: expected a divisor of the width, 8"),
        ({"model": "vit_costum"}, "did you mean 'vit_custom'"),
        ({"model": "mixer_s16"}, "--heads: mixer_s16 takes --patch, --width, --depth, --mlp, --tokens-mlp only"),
        ({"model": "bit_custom", "patch": None, "heads": None, "depth": None, "width": 48}, "a multiple of 32"),
        ({"val": "noise"}, "--val noise: no labels"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(BadInput, match=message) as refused:
        fit.train(replace(TINY, **change), tmp_path / "out", "x", EAGER)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_fewer_images_than_classes_are_refused(tmp_path):
    for kind in ("train", "val"):
        for name in "abc":
            (tmp_path / kind / name).mkdir(parents=True)
    labels = np.array([0, 5])
    np.savez(tmp_path / "few.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=labels)
    with pytest.raises(BadInput, match="2 images of 6 classes"):
        fit.train(replace(TINY, data=f"npz:{tmp_path / 'few.npz'}"), tmp_path / "out", "x", EAGER)


def test_the_script_refuses_in_one_line(tmp_path):
    flags = ["--model", "vit_custom", "--data", "digits:train", "--fraction", "2", "--out", str(tmp_path / "out")]
    told = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, check=False)
    assert told.returncode == 2 and told.stdout == "" and len(told.stderr.splitlines()) == 1
    assert "--fraction 2" in told.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    ["--model vit_custom --patch 2 --width 64 --depth 4 --epochs 20 --mixup 0.4", "--model bit_custom --epochs 5"],
)
def test_small_models_learn_the_digits(tmp_path, flags):
    subprocess.run([sys.executable, SCRIPT, *flags.split(), *COMMON, "--name", "m", "--out", tmp_path], check=True)
    assert card.read(tmp_path / "m.card.json")["final_accuracy"] >= 0.95


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    flags = [*COMMON, "--model", "vit_custom", "--patch", "4", "--width", "8", "--depth", "1", "--heads", "2"]
    flags += ["--epochs", "6", "--save-seconds", "0", "--jit", "off", "--name", "m", "--out"]
    command = [sys.executable, str(SCRIPT), *flags]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    state, done = tmp_path / "killed/m.state.npz", tmp_path / "killed/m.keras"
    for pause in (0.0, 0.1, 0.25, 0.4):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen([*command, str(tmp_path / "killed")])
        while not (state.exists() and state.stat().st_mtime_ns != before) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        process.wait()
    assert state.exists() and not done.exists()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    for a, b in zip(_weights(tmp_path / "whole/m.keras"), _weights(done), strict=True):
        np.testing.assert_array_equal(a, b)
    logs = [
        tf_vitcnn.read_table(tmp_path / place / "m.log.csv").drop(columns="images_per_second")
        for place in ("whole", "killed")
    ]
    assert logs[0].equals(logs[1])


@pytest.mark.slow
def test_the_study_is_replicated_on_the_digits(tmp_path):
    script = SCRIPT.with_name("replicate.py")
    subprocess.run([sys.executable, script, "--smoke", "--out", tmp_path], check=True)
    assert (tmp_path / "results/report.html").exists()
    verdicts = (tmp_path / "results/claims.csv").read_text().splitlines()
    assert len(verdicts) > 20
