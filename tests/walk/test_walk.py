"""The walk: the same table whatever the micro-batch, budget, strategy or compiler; resumable; bounded."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tf_vitcnn
from tests import toys
from tests.stats.test_hsic import reference
from tf_vitcnn.devices import cores
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats.resample import standard_error
from tf_vitcnn.walk import gram_sums
from tf_vitcnn.walk.feed import feed, minibatch_chunks
from tf_vitcnn.walk.grams import GramWalk, grams

ROOT = Path(__file__).parents[2]
CKA = {"images": 40, "batch": 20, "repeats": 1, "seed": 3}


@pytest.fixture(scope="module")
def vit():
    return tf_vitcnn.load("vit_ti16@random", image_size=32)


@pytest.fixture(scope="module")
def plain(vit):
    return tf_vitcnn.run("cka", vit, "digits:test", taps=["block0[01]/*"], **CKA)


def matrix(table):
    return table.pivot(index="depth_x", columns="depth_y", values="cka").to_numpy()


def test_cka_of_a_model_equals_numpy_on_its_whole_activations(vit, plain):
    from tf_vitcnn.data.sources import draw, open_source

    source = open_source("digits:test")
    indices = draw(source, 40, 3)
    images = vit.preprocess(np.stack([source.load(tf.constant(i))[0].numpy() for i in indices]))
    names = [n for n in vit.taps if n[:7] in ("block00", "block01")]
    out = vit.expose(names)(images)
    batches = [[out[n].numpy()[i : i + 20] for n in names] for i in (0, 20)]
    np.testing.assert_allclose(matrix(plain), reference(batches), atol=1e-5)
    assert plain.cka_se.notna().all()


def test_errors_are_of_images_whatever_the_draw(vit):
    """Two draws: an image's group is its place in the first one, in both."""
    from tests.stats.test_pair_noise import variance_once
    from tests.stats.test_shares import of_images
    from tf_vitcnn.data.sources import draw, open_source

    names = ["block00/resid/post", "block03/resid/post"]
    table = tf_vitcnn.run("cka", vit, "digits:test", taps=names, images=50, batch=25, repeats=2, seed=3)
    source = open_source("digits:test")
    order = draw(source, None, 3)
    q, group, pairs = [], [], []
    for repeat in range(2):
        indices = draw(source, 50, 3, repeat)
        images = vit.preprocess(np.stack([source.load(tf.constant(i))[0].numpy() for i in indices]))
        x, y = (value.numpy().reshape(50, -1) for value in vit.expose(names)(images).values())
        for part in (slice(0, 25), slice(25, 50)):
            q.append([of_images(a[part], b[part]) for a, b in ((x, y), (x, x), (y, y))])
            pairs.append((x[part], y[part]))
            group += [int(np.flatnonzero(order == i)[0]) % 20 for i in indices[part]]
    q, group = np.concatenate(q, axis=1), np.array(group)
    h = q.mean(axis=1) * 24 / 23
    influence = 2 * h[0] / np.sqrt(h[1] * h[2]) * (q[0] / h[0] - q[1] / h[1] / 2 - q[2] / h[2] / 2)
    means = np.array([influence[group == g].mean() for g in range(20)])
    row = table.index[(table.depth_x < table.depth_y)][0]
    meeting, again = 50 * 24 / (source.size * (source.size - 1)), 50 / source.size
    twice = np.sum((means - means.mean()) ** 2) / (20 * 19)
    once = variance_once(twice, pairs, h, (2 * (1 + meeting) / (100 * 24), 100 / (1 + again)))
    assert 0.5 < once / twice < 0.98
    scaled = -means / 19 * np.sqrt(once / twice)
    np.testing.assert_allclose(table.attrs["groups"]["cka"][:, row], scaled, rtol=2e-3, atol=1e-6)
    assert table.cka_se[row] == pytest.approx(np.sqrt(once), rel=1e-3)
    assert table.cka_se[table.depth_x == table.depth_y].max() < 1e-6  # a layer is like itself on any images


PAIR = "block00/resid/post:block03/resid/post"
WITH_IMAGES = {"images": 50, "batch": 25, "repeats": 2, "seed": 3, "images_that_count": 5, "of": (PAIR,)}


def test_images_that_count_are_those_of_largest_influence(vit):
    from tests.stats.test_shares import influences
    from tf_vitcnn.data.sources import draw, open_source

    names = PAIR.split(":")
    one = {**WITH_IMAGES, "images": 25, "repeats": 1}
    table = tf_vitcnn.run("cka", vit, "digits:test", taps=names, **one)
    found = table.attrs["beside"]["cka_images"]
    source = open_source("digits:test")
    indices = draw(source, 25, 3)
    images = vit.preprocess(np.stack([source.load(tf.constant(i))[0].numpy() for i in indices]))
    expected = influences(*(value.numpy().reshape(25, -1) for value in vit.expose(names)(images).values()))
    order = np.argsort(-abs(expected))[:5]
    assert list(found["rank"]) == [1, 2, 3, 4, 5] and list(found.image) == list(indices[order])
    np.testing.assert_allclose(found.influence, expected[order], rtol=1e-3)
    np.testing.assert_allclose(found.share, abs(expected[order]) / abs(expected).sum(), rtol=1e-3)
    about = found.attrs["sidecar"]
    assert about["analysis"] == "cka_images" and about["images"][str(indices[order[0]])].startswith("digits:test")
    pd.concat([table, table])  # pandas compares what is attached


def test_images_that_count_on_replicas_and_in_a_file(vit, tmp_path):
    from tf_vitcnn.tables.write import write_table

    one = tf_vitcnn.run("cka", vit, "digits:test", taps=PAIR.split(":"), **WITH_IMAGES).attrs["beside"]["cka_images"]
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"])
    again = tf_vitcnn.run(
        "cka",
        "vit_ti16@random",
        "digits:test",
        taps=PAIR.split(":"),
        strategy=strategy,
        image_size=32,
        resume_dir=str(tmp_path),
        **WITH_IMAGES,
    ).attrs["beside"]["cka_images"]
    pd.testing.assert_frame_equal(one, again, rtol=1e-3)
    write_table(tmp_path / "vit", one, one.attrs["sidecar"])
    pd.testing.assert_frame_equal(tf_vitcnn.read_table(tmp_path / "vit.csv"), one, rtol=1e-5)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ((), "go together"),
        (("block00/resid/post",), "expected LAYER_X:LAYER_Y"),
        (("block00/resid/post:block0/resid/post",), "did you mean"),
    ],
)
def test_images_that_count_need_pairs(vit, of, said):
    with pytest.raises(BadInput, match=said):
        tf_vitcnn.run("cka", vit, "digits:test", taps=["block0[01]/resid/*"], images_that_count=3, of=of, **CKA)


@pytest.mark.parametrize(
    "other",
    [{"memory": 1.4}, {"memory": 3.0}, {"jit": True}],
    ids=["small budget", "large budget", "xla"],
)
def test_same_table_under_any_budget_and_compiler(vit, plain, other):
    again = tf_vitcnn.run("cka", vit, "digits:test", taps=["block0[01]/*"], **CKA, **other)
    np.testing.assert_allclose(again.cka, plain.cka, atol=1e-5)
    np.testing.assert_allclose(again.cka_se, plain.cka_se, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "large", "units", "apart"),
    [
        ("float32", 0, False, 1e-5),
        ("bfloat16", 0, False, 2e-3),
        ("bfloat16", math.inf, False, 2e-3),
        ("bfloat16", math.inf, True, 2e-3),
    ],
    ids=["by the host", "bfloat16 by the host", "bfloat16 widened", "bfloat16 by its own kernel"],
)
def test_same_table_whoever_multiplies(vit, monkeypatch, precision, large, units, apart):
    monkeypatch.setattr(gram_sums, "LARGE", large)
    monkeypatch.setattr(cores, "bfloat16_units", lambda: units)
    once = {**CKA, "batch": 40, "taps": ["block0[01]/*"]}
    again = tf_vitcnn.run("cka", vit, "digits:test", **once, precision=precision)
    monkeypatch.setattr(gram_sums, "LARGE", math.inf)
    np.testing.assert_allclose(again.cka, tf_vitcnn.run("cka", vit, "digits:test", **once).cka, atol=apart)


@pytest.mark.parametrize("replicas", [2, 4])
def test_same_table_on_replicas(plain, replicas):
    devices = [f"CPU:{i}" for i in range(replicas)]
    strategy = tf.distribute.MirroredStrategy(devices)
    again = tf_vitcnn.run(
        "cka", "vit_ti16@random", "digits:test", taps=["block0[01]/*"], strategy=strategy, image_size=32, **CKA
    )
    np.testing.assert_allclose(again.cka, plain.cka, atol=1e-5)
    np.testing.assert_allclose(again.attrs["groups"]["cka"], plain.attrs["groups"]["cka"], atol=1e-5)
    np.testing.assert_allclose(again.cka_se, plain.cka_se, atol=1e-5)


def test_skip_ratio_on_replicas_and_micro_batches(vit):
    same = {"data": "digits:test", "images": 30, "taps": ["block0[01]/*"]}
    one = tf_vitcnn.run("skip_ratio", vit, batch=30, **same)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for again in (
        tf_vitcnn.run("skip_ratio", vit, batch=7, **same),
        tf_vitcnn.run("skip_ratio", "vit_ti16@random", batch=4, strategy=strategy, image_size=32, **same),
        tf_vitcnn.run("skip_ratio", vit, batch=7, jit=True, **same),
    ):
        np.testing.assert_allclose(again.ratio, one.ratio, rtol=1e-5)
        np.testing.assert_allclose(again.cosine, one.cosine, atol=1e-5)
        np.testing.assert_allclose(again.ratio_se, one.ratio_se, atol=1e-5)


def test_two_models_in_one_pass(vit):
    other = tf_vitcnn.load("vit_ti16@random", image_size=32, seed=1, name="other")
    few = {"data": "digits:test", "taps": ["block0[0-3]/resid/post"], **CKA}
    both = tf_vitcnn.run("cka", vit, against=other, all_pairs=True, **few)
    own = tf_vitcnn.run("cka", vit, **few)
    within = both[(both.model_x == "vit_ti16") & (both.model_y == "vit_ti16")]
    np.testing.assert_allclose(within.cka, own.cka, atol=1e-5)
    cross = both[(both.model_x == "vit_ti16") & (both.model_y == "other")]
    lines = tf_vitcnn.run("cka", vit, against=other, pairs="matching", **few)
    same = cross[cross.layer_x == cross.layer_y]
    np.testing.assert_allclose(lines.cka, same.cka, atol=1e-5)


def test_tokens_apart(vit):
    cls = tf_vitcnn.run("cka", vit, "digits:test", taps=["block00/resid/*"], tokens="cls", **CKA)
    spatial = tf_vitcnn.run("cka", vit, "digits:test", taps=["block00/resid/*"], tokens="spatial", **CKA)
    assert np.abs(cls.cka - spatial.cka).max() > 1e-3


def command(out, *more, analysis="cka", env=None):
    words = [sys.executable, str(ROOT / "scripts/analyze.py"), analysis, "--model", "vit_ti16@random"]
    words += ["--image-size", "32", "--data", "digits:test", "--out", str(out), *more]
    return words, {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}


def call(out, *more, **kwargs):
    words, env = command(out, *more, **kwargs)
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=300)


FILES = ["vit_ti16.csv", "vit_ti16.groups.npz", "vit_ti16.json"]
CLI = ("--images", "40", "--batch", "20", "--repeats", "1", "--taps", "block0[01]/*")


def test_command_line_writes_keeps_and_refuses(tmp_path):
    first = call(tmp_path, *CLI)
    assert (first.returncode, first.stderr) == (0, f"next: tf-vitcnn report {tmp_path}\n")
    csv = tmp_path / "cka" / "vit_ti16.csv"
    assert first.stdout.splitlines()[-1] == str(csv)
    bytes_before = csv.read_bytes()
    sidecar = json.loads(csv.with_suffix(".json").read_text())
    assert sidecar["parameters"]["images"] == 40
    table = tf_vitcnn.read_table(csv)
    pd.testing.assert_frame_equal(table, pd.read_csv(csv), check_dtype=False, check_exact=False)
    assert sorted(p.name for p in csv.parent.iterdir()) == FILES
    assert table.attrs["groups"]["cka"].shape == (20, len(table))

    other = call(tmp_path, *CLI, "--seed", "1")
    assert other.returncode == 2
    assert "parameters.seed: 0 -> 1" in other.stderr and len(other.stderr.splitlines()) == 1
    assert csv.read_bytes() == bytes_before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ckka", "--model", "vit_ti16@random", "--data", "noise"], "did you mean 'cka'"),
        (["cka", "--model", "vit_b33@random", "--data", "noise"], "vit_b32"),
        (["cka", "--model", "vit_ti16@random", "--data", "digits:valid"], "digits"),
        (["cka", "--model", "vit_ti16@random", "--data", "digits:test", "--images", "99999"], "99999"),
        (["cka", "--model", "vit_ti16@random", "--data", "digits:test", "--images", "10"], "minibatch"),
        (["cka", "--model", "vit_ti16@random", "--data", "digits:test", "--batch", "x"], "--batch"),
        (["cka", "--model", "vit_ti16@random", "--data", "digits:test", "--taps", "blok*", "--batch", "8"], "blok"),
        (["skip_ratio", "--model", "vit_ti16@random", "--data", "noise", "--against", "vit_ti16@random"], "one model"),
        (["cka", "--model", "vit_ti16@random", "--data", "noise", "--strategy", "multiworker"], "TF_CONFIG"),
        (["cka", "--model", "vit_ti16@random", "--data", "noise", "--out", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
@pytest.mark.slow
def test_bad_input_is_one_line(tmp_path, arguments, said):
    words = [sys.executable, str(ROOT / "scripts/analyze.py"), *arguments]
    if "--out" not in arguments:
        words += ["--out", str(tmp_path / "out")]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert not list(tmp_path.rglob("*.csv"))


def test_not_a_number_names_the_tap(vit):
    broken = tf_vitcnn.load("vit_ti16@random", image_size=32)
    layer = broken.model.get_layer("block03.mlp.out")
    layer.set_weights([w * np.nan for w in layer.get_weights()])
    taps = ["block0[0-4]/*"]
    with pytest.raises(BadInput, match="block03/mlp/out"):
        tf_vitcnn.run("cka", broken, "digits:test", taps=taps, **CKA)
    with pytest.raises(BadInput, match="block03/mlp/out"):
        tf_vitcnn.run("skip_ratio", broken, "digits:test", taps=taps, images=8)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
def test_two_worker_processes_give_the_table_of_one(tmp_path, plain):
    workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    running = []
    for index in range(2):
        config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        words, env = command(tmp_path, *CLI, "--seed", "3", "--strategy", "multiworker", env={"TF_CONFIG": config})
        running.append(subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for worker in running:
        _, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err
    again = tf_vitcnn.read_table(tmp_path / "cka" / "vit_ti16.csv")
    np.testing.assert_allclose(again.cka, plain.cka, atol=2e-5)  # six printed digits
    np.testing.assert_allclose(standard_error(again.attrs["groups"]["cka"]), plain.cka_se, atol=2e-5)  # printed: three
    np.testing.assert_allclose(again.attrs["groups"]["cka"], plain.attrs["groups"]["cka"], atol=2e-5)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_gives_the_same_bytes(tmp_path):
    more = ("--images", "320", "--batch", "20", "--repeats", "2", "--taps", "block0*")
    env = {"TF_VITCNN_CHECKPOINT_SECONDS": "0"}
    begun = time.monotonic()
    assert call(tmp_path / "whole", *more, env=env).returncode == 0
    took = time.monotonic() - begun
    whole = [(tmp_path / "whole/cka" / f"vit_ti16.{ending}").read_bytes() for ending in ("csv", "groups.npz")]
    rng = np.random.default_rng(0)
    for attempt in range(10):
        out = tmp_path / f"killed{attempt}"
        words, environment = command(out, *more, env=env)
        victim = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(took * rng.uniform(0.05, 0.95))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert call(out, *more, env=env).returncode == 0
        again = [(out / "cka" / f"vit_ti16.{ending}").read_bytes() for ending in ("csv", "groups.npz")]
        assert again == whole
        assert sorted(p.name for p in (out / "cka").iterdir()) == FILES


def test_grams_of_a_tap_equal_numpy_on_its_centred_features(vit):

    images = np.random.default_rng(0).normal(size=(22, 32, 32, 3)).astype("float32")
    names = ["stem/embed", "block01/attn/q", "block11/resid/post"]
    found = dict(grams(vit, images, names, micro=8))
    for name, value in vit.expose(names)(images).items():
        x = np.asarray(value, np.float64).reshape(22, -1)
        x -= x.mean(axis=0)
        np.testing.assert_allclose(found[name], x @ x.T, atol=1e-5 * np.square(x).sum(axis=1).max())
    assert list(found) == names


def test_a_model_whose_only_input_is_in_a_list():
    """As Keras before 3.11 gives a model back that was saved."""
    vit = toys.shared("vit")
    listed = replace(vit, model=keras.Model([vit.model.inputs[0]], vit.model.output))
    for name, setting in (("skip_ratio", {}), ("cka", {"batch": 10, "repeats": 1})):
        tables = [tf_vitcnn.run(name, subject, "digits:test", images=10, **setting) for subject in (vit, listed)]
        pd.testing.assert_frame_equal(*tables)


def test_every_segment_is_traced_once(vit):
    from tf_vitcnn.analyses.base import Picked, Run
    from tf_vitcnn.analyses.cka.analysis import CKA as Analysis
    from tf_vitcnn.data.sources import batches, open_source
    from tf_vitcnn.walk.gram_sums import GramSums

    source, replicas = open_source("noise"), Replicas(named_strategy("cpu"))
    chosen = tuple(n for n in vit.taps if n.startswith("block00/resid"))
    bound = Run((vit,), (chosen,), images=20, batch=10)
    gram = GramWalk([GramSums(Analysis(repeats=1), bound, replicas)], replicas)
    indices = np.arange(20)
    gram.prepare([next(iter(batches(source, indices[:4], (vit.preprocessing,), 4)))[0][0]])
    positions = minibatch_chunks(2, 10, 4, 1)
    fed = feed(source, Picked(indices, indices * 0), positions, [vit.preprocessing], replicas)
    for _ in range(2):
        gram.step([next(fed).batch for _ in range(3)], [tf.constant(0)], [tf.constant(1.0)])
    assert [part.step.experimental_get_tracing_count() for part in gram.chain] == [1] * len(gram.chain)


def test_equal_blocks_share_a_trace_and_give_the_same_bytes(monkeypatch):
    from tf_vitcnn import surgery
    from tf_vitcnn.walk import grams as walk

    deep = toys.vit(depth=12)
    made = []
    init = walk.GramWalk.__init__
    monkeypatch.setattr(walk.GramWalk, "__init__", lambda self, *a: (init(self, *a), made.append(self))[0])
    settings = {"images": 16, "batch": 8, "repeats": 1}
    shared = tf_vitcnn.run("cka", deep, "noise", **settings)
    unlike = surgery.Likeness.of_call
    monkeypatch.setattr(surgery.Likeness, "of_call", lambda *a: (unlike(*a), object()))
    alone = tf_vitcnn.run("cka", deep, "noise", **settings)
    pd.testing.assert_frame_equal(shared, alone, check_exact=True)
    assert made[0].programs <= 5 and made[1].programs == len(made[1].chain) >= 8


def test_a_deep_networks_segments_and_folds_are_four_programs_each_at_most(monkeypatch):
    """As many blocks as a ViT-H/14 has."""
    from tf_vitcnn.analyses.base import Picked, Run
    from tf_vitcnn.analyses.cka.analysis import CKA as Analysis
    from tf_vitcnn.data.sources import batches, open_source
    from tf_vitcnn.walk.gram_sums import GramSums

    monkeypatch.setattr(gram_sums, "LARGE", math.inf)  # as devices do, not by the host
    deep, source, replicas = toys.vit(depth=32), open_source("noise"), Replicas(named_strategy("cpu"))
    analysis, indices = Analysis(repeats=1), np.arange(8)
    bound = Run((deep,), (tuple(analysis.default_taps(deep)),), images=8, batch=8)
    sums = GramSums(analysis, bound, replicas)
    gram = GramWalk([sums], replicas)
    gram.prepare([next(iter(batches(source, indices, (deep.preprocessing,), 8)))[0][0]])
    fed = feed(source, Picked(indices, indices * 0), minibatch_chunks(1, 8, 8, 1), [deep.preprocessing], replicas)
    gram.step([next(fed).batch], [tf.constant(0)], [tf.constant(1.0)])
    assert len(gram.chain) > 12 and gram.programs <= 5  # the images themselves among them
    assert sums._gram.experimental_get_tracing_count() <= 4
