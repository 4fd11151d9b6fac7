import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import tf_vitcnn
from tf_vitcnn import errors
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.data.sources import open_source
from tf_vitcnn.tables.state import HEADER
from tf_vitcnn.training import augment, card, fit, journal, log, resume
from tf_vitcnn.training.examples import Examples, Order, labels_of, subset
from tf_vitcnn.training.recipe import Recipe
from tf_vitcnn.training.schedule import WarmupCosine
from tf_vitcnn.verdicts.seeds import training

EAGER = fit.Machine(jit=False, save_seconds=0)
TINY = Recipe(
    model="vit_custom",
    data="digits:train",
    val="digits:test",
    epochs=2,
    fraction=0.05,
    patch=4,
    width=8,
    depth=1,
    heads=2,
    batch=24,
    mixup=0.2,
    flip=True,
    shift=0.25,
)


def weights(path):
    import keras

    import tf_vitcnn.models.layers  # noqa: F401  (registers the layers)

    return keras.models.load_model(path, compile=False).get_weights()


def same_but_speed(a, b):
    return a.drop(columns="images_per_second").equals(b.drop(columns="images_per_second"))


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine():
    rate = WarmupCosine(2.0, steps=110, warmup=10)
    values = [float(rate(step)) for step in (0, 9, 10, 60, 109)]
    expected = [0.2, 2.0, 2.0, 1.0, 1 + np.cos(np.pi * 99 / 100)]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_a_shift_is_a_crop_of_the_mirrored_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    draws = np.array([[0.5, 0.5, 0.9], [0.0, 0.99, 0.9], [0.99, 0.0, 0.1]], np.float32)
    out = augment.shifted(tf.constant(images), tf.constant(draws), shift=0.25, flip=True).numpy()
    for image, got, (down, right, flip) in zip(images, out, draws, strict=True):
        top, left = int(down * 5), int(right * 5)  # up to 2 of 8 rows and 2 of 6 columns, each way
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        expected = padded[top : top + 8, left : left + 6]
        np.testing.assert_array_equal(got, expected[:, ::-1] if flip >= 0.5 else expected)


def test_mixup_keeps_each_target_a_distribution():
    images, targets = tf.random.uniform((4, 2, 2, 3)), tf.one_hot([0, 1, 2, 0], 3)
    mixed, soft = augment.mixed(images, targets, tf.constant(0.25))
    np.testing.assert_allclose(soft.numpy().sum(axis=1), 1.0)
    np.testing.assert_allclose(mixed[1], 0.25 * images[1] + 0.75 * images[0], rtol=1e-6)
    np.testing.assert_allclose(soft[1], [0.75, 0.25, 0.0])


def test_smaller_shares_lie_in_larger_ones_and_have_every_class():
    labels = np.repeat(np.arange(5), [40, 30, 20, 10, 1])
    shares = [set(subset(labels, fraction, seed=3)) for fraction in (0.03, 0.1, 0.3, 1.0)]
    assert all(small <= large for small, large in itertools.pairwise(shares))
    assert [len(share) for share in shares] == [2 + 1 + 1 + 1 + 1, 4 + 3 + 2 + 1 + 1, 12 + 9 + 6 + 3 + 1, 101]
    assert {labels[i] for i in shares[0]} == set(range(5))
    assert set(subset(labels, 0.1, seed=4)) != shares[1]


def test_a_stream_from_step_s_is_the_rest_of_one_from_0():
    order = Order(images=10, batch=3, epochs=3, seed=1, mixup=0.5)
    whole = list(order.from_step(0))
    assert len(whole) == order.steps == 9
    for first in (1, 3, 4, 8):
        for a, b in zip(whole[first:], order.from_step(first), strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
    epoch = np.concatenate([places for places, _, _ in whole[:3]])
    assert len(set(epoch)) == 9
    assert list(epoch) != list(np.concatenate([places for places, _, _ in whole[3:6]]))


@pytest.mark.parametrize("side", [8, 12])
def test_images_in_memory_and_read_again_give_the_same_steps(side):
    source = open_source("digits:test")
    labels = labels_of(source, "--data")
    chosen = subset(labels, 0.1, seed=0)
    held, read = (Examples(source, chosen, labels, Preprocessing((side, side)), memory) for memory in (1e9, 0))
    assert held.held and not read.held
    order = Order(len(held), 16, 1, seed=0, mixup=0.2)
    recipe = Recipe(model="vit_custom", data="digits:test", mixup=0.2, shift=0.2).settled(len(held))
    for a, b in zip(held.steps(order, recipe, 10, 1), read.steps(order, recipe, 10, 1), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    assert a[0].shape == (16, side, side, 3)
    for a, b in zip(held.in_order(16), read.in_order(16), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return fit.train(TINY, tmp_path_factory.mktemp("trained"), "tiny", EAGER)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained, tmp_path):
    again = fit.train(TINY, tmp_path, "tiny", fit.Machine(jit=False, memory=0))
    for a, b in zip(weights(trained), weights(again), strict=True):
        np.testing.assert_array_equal(a, b)
    other = fit.train(replace(TINY, seed=1, epochs=1), tmp_path, "other", EAGER)
    assert any((a != b).any() for a, b in zip(weights(trained), weights(other), strict=True))


def test_a_killed_run_ends_where_an_uninterrupted_one_does(trained, tmp_path, monkeypatch):
    whole = journal.Journal.on_train_batch_end

    def killed(self, batch, logs=None):
        whole(self, batch, logs)
        if self.progress.step == 4:  # within the second epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(journal.Journal, "on_train_batch_end", killed)
    with pytest.raises(KeyboardInterrupt):
        fit.train(TINY, tmp_path, "tiny", EAGER)
    assert (tmp_path / "tiny.state.npz").exists() and not (tmp_path / "tiny.keras").exists()
    monkeypatch.setattr(journal.Journal, "on_train_batch_end", whole)
    path = fit.train(TINY, tmp_path, "tiny", EAGER)
    for a, b in zip(weights(trained), weights(path), strict=True):
        np.testing.assert_array_equal(a, b)
    logs = [tf_vitcnn.read_table(file.with_name("tiny.log.csv")) for file in (trained, path)]
    assert same_but_speed(*logs) and len(logs[0]) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "tiny.card.json",
        "tiny.keras",
        "tiny.log.csv",
        "tiny.log.json",
    ]


def test_the_card_tells_what_the_model_is(trained):
    about = card.read(trained.with_name("tiny.card.json"))
    assert about["family"] == "vit" and about["pool"] == "cls" and about["patch_size"] == 4
    assert about["training_images"] == 79 and about["trained_on"] == "digits:train" and about["classes"] == 10
    assert about["image_size"] == [8, 8] and about["preprocessing"]["values"] == "-1..1"
    assert about["recipe"]["from"] is None and about["finetuned_from"] is None
    rows = tf_vitcnn.read_table(trained.with_name("tiny.log.csv"))
    assert rows.epoch.tolist() == [1, 2] and rows.step.dtype == "int64"
    assert rows.attrs["sidecar"]["analysis"] == "training_log"
    assert about["final_accuracy"] == pytest.approx(rows.val_accuracy.iloc[-1], abs=1e-5)
    assert about["best_accuracy"] == pytest.approx(rows.val_accuracy.max(), abs=1e-5)


def test_what_claims_compare_by_comes_from_the_card_into_the_record(trained):
    """The recipe without its paths, the seed, the kind of pictures, and how many images the accuracy is of."""
    about, record = card.read(trained.with_name("tiny.card.json")), tf_vitcnn.load(str(trained)).provenance
    assert record["recipe"] == {k: v for k, v in about["settled"].items() if k not in ("data", "val", "from")}
    assert record["recipe"]["seed"] == record["seed"] == 0 and record["recipe"]["rate"] > 0
    assert record["domain"] == "digits"
    # an accuracy is a whole number of the images it is of
    assert record["final_accuracy"] * record["validation_images"] == pytest.approx(
        round(record["final_accuracy"] * record["validation_images"]), abs=1e-3
    )
    assert training(record) == training({**record, "recipe": {**record["recipe"], "seed": 7}, "weights_sha256": "x"})
    assert training(record) != training({**record, "recipe": {**record["recipe"], "rate": 1.0}})


def test_the_learning_curve_draws_the_columns_of_the_log(trained):
    drawn = json.dumps(log.chart(tf_vitcnn.read_table(trained.with_name("tiny.log.csv"))).to_dict())
    assert "validation" in drawn and "images/s" not in drawn


def test_a_finished_run_is_kept_and_another_run_refused(trained):
    before = trained.stat().st_mtime_ns
    assert fit.train(TINY, trained.parent, "tiny", EAGER) == trained
    assert trained.stat().st_mtime_ns == before
    with pytest.raises(errors.BadInput, match=r"another run \(seed: 0 there, 5 here\)"):
        fit.train(replace(TINY, seed=5), trained.parent, "tiny", EAGER)


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_state(tmp_path):
    wild = replace(TINY, rate=1e37, warmup=0.1, clip=0, weight_decay=0, epochs=4)
    with pytest.raises(errors.BadInput, match=r"not finite at step \d+ of 12; the state of step \d+ is kept"):
        fit.train(wild, tmp_path, "wild", EAGER)
    with np.load(tmp_path / "wild.state.npz") as state:
        assert all(np.isfinite(state[name]).all() for name in state.files if name != HEADER)
    assert not (tmp_path / "wild.keras").exists()


def test_a_state_with_a_variable_that_is_not_finite_is_not_written(tmp_path):
    path = tmp_path / "x.state.npz"
    assert resume.save(path, {"a": 1}, resume.Progress(step=3), [np.ones(2)])
    assert not resume.save(path, {"a": 1}, resume.Progress(step=4), [np.array([1.0, np.nan])])
    variable = tf.Variable(np.zeros(2))
    assert resume.restore(path, [variable]).step == 3
    np.testing.assert_array_equal(variable.numpy(), np.ones(2))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(errors.BadInput, match="not the state of a training run"):
        resume.restore(path, [variable])
