"""A minibatch's sums, fed by hand: the unbiased estimator of plain Grams, whoever multiplies and however it is cut."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tf_vitcnn.analyses.base import Extra, PerMinibatch, Run, View
from tf_vitcnn.devices import cores
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.room import Room
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats import folded
from tf_vitcnn.walk import gram_sums
from tf_vitcnn.walk.gram_sums import GramSums

N, DRAW, DRAWS = 14, 2, 4
WIDTHS = {"a": (3, 6), "b": (1, 40), "c": (2, 9)}  # representations of a tap, and features of each
ROOM = Room(device=0, host=0, lanes=2, units=0)


@dataclass(frozen=True)
class Asked(PerMinibatch):
    """Taps [b, r, p], each position a representation of its own."""

    rows: tuple[str, ...] = ("a", "b")
    columns: tuple[str, ...] = ("c",)
    type: str = "float32"
    forms: tuple[str, ...] = ("u",)
    wanted: tuple[str, ...] = ("xy", "pairs")
    pairs: tuple[tuple[int, int], ...] = ()

    def views(self, run):
        def apart(x):
            return tf.transpose(x, [1, 0, 2])

        rows, columns = (
            [View(side, tap, tuple(f"{tap}{i}" for i in range(WIDTHS[tap][0])), apart) for tap in taps]
            for side, taps in enumerate((self.rows, self.columns))
        )
        return rows, columns

    def extra(self, run):
        return {"brightness": Extra(1, "images", lambda x: tf.reduce_mean(x, axis=[1, 2, 3]))}

    def draws(self):
        return DRAWS

    def product_type(self):
        return self.type

    def centrings(self):
        return self.forms

    def products(self, run):
        return frozenset(self.wanted)

    def pairs_of_images(self, run):
        return self.pairs


def features():
    random = np.random.default_rng(0)
    spread = 1 + 20 * random.random(N)  # images unlike each other
    made = {tap: 5 + random.normal(size=(N, r, p)) * spread[:, None, None] for tap, (r, p) in WIDTHS.items()}
    return {tap: x.astype("float32") for tap, x in made.items()}


def sums_of(analysis, taps, cuts=(0, 6, 12), present=1.0):
    """The minibatch's sums, its chunks beginning at the cuts, the last one filled up by something large."""
    run = Run((SimpleNamespace(name="one"), SimpleNamespace(name="two")), ((), ()), batch=N)
    sums = GramSums(analysis, run, Replicas(tf.distribute.get_strategy()), room=ROOM)
    group = np.arange(N) % 5
    size = cuts[1] if len(cuts) > 1 else N + 3
    padded = {tap: np.concatenate([x, np.full((size, *x.shape[1:]), 1e3, "float32")]) for tap, x in taps.items()}
    for i, view in enumerate(sums.views):
        sums.pivot(i, {view.tap: tf.constant(taps[view.tap][:4])})
    for i, view in enumerate(sums.views):
        pieces = [tf.constant(padded[view.tap][start : start + size]) for start in cuts]
        sums.add(i, [sums.filed(i, {view.tap: piece}, sums.shifts[i]) for piece in pieces])
    groups = [tf.constant(np.resize(group, N + size)[start : start + size], tf.int32) for start in cuts]
    out = sums.finish(tf.constant(DRAW), tf.constant(present), groups)
    scales = {}
    for i, view in enumerate(sums.views):
        scales.setdefault(sums.letters[i], []).extend([float(sums.scales[i])] * len(view.keys))
    return out, {letter: np.array(of) ** 2 for letter, of in scales.items()}


def hsic(k, other):
    """HSIC1 of Song et al. (2012), from Grams of features as they are."""
    n = len(k)
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    both = k.sum() * other.sum() / ((n - 1) * (n - 2))
    return (np.sum(k * other) + both - 2 / (n - 2) * k.sum(0) @ other.sum(0)) / (n * (n - 3))


def grams(taps, names, rounded=False):
    found = []
    for tap in names:
        x = taps[tap]
        if rounded:
            pivot = x[:4].mean(axis=0)
            x = tf.cast(tf.cast(x - pivot, tf.bfloat16), tf.float64).numpy()
        found += [x[:, i].astype(float) @ x[:, i].astype(float).T for i in range(x.shape[1])]
    return found


def matrix(left, right):
    return np.array([[hsic(k, other) for other in right] for k in left])


@pytest.mark.parametrize("large", [0, math.inf], ids=["by the host", "by the device"])
@pytest.mark.parametrize("type", ["float32", "bfloat16"])
@pytest.mark.parametrize("together", [64, 2], ids=["whole", "in slices"])
@pytest.mark.parametrize("cuts", [(0,), (0, 7), (0, 6, 12)], ids=["one chunk", "two", "a padded one"])
def test_sums_are_the_unbiased_estimator_of_plain_grams(monkeypatch, large, type, together, cuts):
    monkeypatch.setattr(gram_sums, "LARGE", large)
    monkeypatch.setattr(gram_sums, "TOGETHER", together)
    taps, at_host = features(), []
    multiply = gram_sums.host_gram.grams
    monkeypatch.setattr(gram_sums.host_gram, "grams", lambda *args: at_host.append(1) or multiply(*args))
    out, scale = sums_of(Asked(type=type), taps, cuts)
    assert bool(at_host) == (large == 0)
    left, right = (grams(taps, names, type == "bfloat16") for names in (("a", "b"), ("c",)))
    asked = {
        "xy": matrix(left, right) * np.outer(scale["x"], scale["y"]),
        "xx": np.array([hsic(k, k) for k in left]) * scale["x"] ** 2,
        "yy": np.array([hsic(k, k) for k in right]) * scale["y"] ** 2,
    }
    for key, value in asked.items():
        assert out[key].shape == (DRAWS, *value.shape)
        np.testing.assert_allclose(out[key][DRAW], value, rtol=1e-3, atol=1e-5 * np.abs(value).max(), err_msg=key)
        assert not np.delete(out[key], DRAW, axis=0).any()
    assert any(key.startswith("pairs/") for key in out)
    np.testing.assert_array_equal(out["count"], np.eye(DRAWS)[DRAW])
    np.testing.assert_array_equal(out["groups/images"], [3, 3, 3, 3, 2, *[0] * 15])


def test_a_scale_is_the_power_of_two_that_brings_the_first_images_to_one():
    taps = features()
    _, scale = sums_of(Asked(rows=("a",), columns=("b",)), taps)
    for letter, tap in (("x", "a"), ("y", "b")):
        first = taps[tap][:4].astype(float)
        square = np.square(first - first.mean(axis=0)).sum(axis=-1).mean()
        assert len(set(scale[letter])) == 1 and 0.5 <= scale[letter][0] * square <= 2
        assert math.log2(scale[letter][0]) % 2 == 0  # of the features it is a power of two


@pytest.mark.parametrize("large", [0, math.inf], ids=["by the host", "by the device"])
@pytest.mark.parametrize("type", ["float32", "bfloat16"])
def test_norms_with_and_without_the_mean(monkeypatch, large, type):
    """Squared norms of all images, centred and as they came: what says that a layer is constant."""
    monkeypatch.setattr(gram_sums, "LARGE", large)
    taps = features()
    out, scale = sums_of(Asked(type=type), taps)
    exact = type == "float32" and large == 0  # else about the first images' mean, and that mean's own
    for side, names in (("x", ("a", "b")), ("y", ("c",))):
        centred, whole = out[f"norm_{side}"] / scale[side]
        np.testing.assert_allclose(centred, [np.trace(k) - k.sum() / N for k in grams(taps, names)], rtol=1e-2)
        x = [taps[tap][:, i].astype(float) for tap in names for i in range(WIDTHS[tap][0])]
        about = [0 * each[:1] if exact else each[:4].mean(axis=0) for each in x]
        asked = [np.sum((each - mean) ** 2) + N * np.sum(mean**2) for each, mean in zip(x, about, strict=True)]
        np.testing.assert_allclose(whole, asked, rtol=1e-3 if type == "float32" else 1e-2)


def test_rows_alone_are_compared_with_themselves():
    taps = features()
    out, scale = sums_of(Asked(rows=("a", "b", "c"), columns=()), taps)
    k = grams(taps, ("a", "b", "c"))
    asked = matrix(k, k) * np.outer(scale["x"], scale["x"])
    np.testing.assert_allclose(out["xy"][DRAW], asked, rtol=1e-3, atol=1e-5 * asked.max())
    np.testing.assert_allclose(out["xx"][DRAW], np.diag(asked), rtol=1e-3)
    assert "yy" not in out and "norm_y" not in out


@pytest.mark.parametrize("together", [64, 2], ids=["whole", "in slices"])
def test_forms_are_summed_under_their_names(monkeypatch, together):
    monkeypatch.setattr(gram_sums, "TOGETHER", together)
    monkeypatch.setattr(folded, "TOGETHER", together)
    taps = features()
    forms = ("u", "biased", "procrustes")
    out, scale = sums_of(Asked(rows=("a", "b"), columns=("c",), forms=forms), taps)
    centre = np.eye(N) - 1 / N
    left, right = (grams(taps, names) for names in (("a", "b"), ("c",)))
    biased = [[np.trace(k @ centre @ m @ centre) / (N - 1) ** 2 for m in right] for k in left]
    asked = biased * np.outer(scale["x"], scale["y"])
    np.testing.assert_allclose(out["biased/xy"][DRAW], asked, rtol=1e-3, atol=1e-5 * np.abs(asked).max())
    np.testing.assert_allclose(out["xy"][DRAW], matrix(left, right) * np.outer(scale["x"], scale["y"]), rtol=1e-2)
    # |X'Y|* / (|X| |Y|) of centred features
    x, y = (
        [centre @ taps[tap][:, i].astype(float) for tap in names for i in range(WIDTHS[tap][0])]
        for names in (("a", "b"), ("c",))
    )
    norm = np.linalg.norm
    overlaps = [[norm(a.T @ b, "nuc") / (norm(a) * norm(b)) for b in y] for a in x]
    np.testing.assert_allclose(out["procrustes/xy"][DRAW], overlaps, rtol=1e-3)
    assert out["procrustes/xy"].shape == (DRAWS, 4, 2) and not np.delete(out["procrustes/xy"], DRAW, axis=0).any()
    assert not any(key.startswith("rows/") for key in out)
    assert "groups/xy" in out and "groups/biased/xy" not in out
    assert {key for key in out if key.startswith("pairs/")}
    out, _ = sums_of(Asked(wanted=("xy",)), taps)
    assert not {key for key in out if key.startswith("pairs/")}


def test_procrustes_of_rows_alone_is_that_of_rows_with_themselves():
    alone, _ = sums_of(Asked(rows=("a", "b"), columns=(), forms=("u", "procrustes")), features())
    both, _ = sums_of(Asked(rows=("a", "b"), columns=("a", "b"), forms=("u", "procrustes")), features())
    np.testing.assert_allclose(alone["procrustes/xy"], both["procrustes/xy"], rtol=1e-4)


def test_shares_of_images_are_of_the_pairs_asked_for():
    """Row and column of a pair each from its own side; every image's share is in one of the groups'."""
    out, _ = sums_of(Asked(pairs=((3, 0), (0, 1))), features())
    np.testing.assert_array_equal(out["rows/appearances"], np.ones(N))
    group = np.arange(N) % 5
    for pair, (row, column) in enumerate(((3, 0), (0, 1))):
        of_pair = {"xy": out["groups/xy"][:, row, column], "xx": out["groups/xx"][:, row]}
        of_pair["yy"] = out["groups/yy"][:, column]
        for key, by_group in of_pair.items():
            whole = np.bincount(group, out[f"rows/{key}"][:, pair], minlength=20)
            np.testing.assert_allclose(whole, by_group, rtol=1e-3, atol=1e-5 * np.abs(by_group).max())
    alone, _ = sums_of(Asked(rows=("a", "b"), columns=(), pairs=((3, 0),)), features())
    whole = np.bincount(group, alone["rows/yy"][:, 0], minlength=20)
    np.testing.assert_allclose(whole, alone["groups/xx"][:, 0], rtol=1e-3, atol=1e-5 * np.abs(whole).max())


def test_a_replica_without_a_minibatch_adds_nothing_whatever_it_holds():
    taps = features()
    taps["c"][3] = np.inf
    run = Asked(forms=("u", "procrustes"), pairs=((0, 0),))
    with pytest.raises(BadInput, match=r"two: tap c \(c0\) holds NaN or infinity"):
        sums_of(run, taps)
    out, _ = sums_of(Asked(pairs=((0, 0),)), taps, present=0.0)
    assert not any(value.any() for value in out.values())


def test_what_is_not_finite_is_named():
    taps = features()
    taps["a"][5, 2] = np.nan
    with pytest.raises(BadInput, match=r"one: tap a \(a2\) holds NaN or infinity"):
        sums_of(Asked(), taps)
    taps = features()
    taps["b"][5, 0] = np.nan
    with pytest.raises(BadInput, match=r"one: tap b \(b0\)"):
        sums_of(Asked(), taps)


def test_the_host_multiplies_what_is_worth_calling_its_cores(monkeypatch):
    """From LARGE multiplications on, in float32; in bfloat16 where the processor has no units for it."""
    monkeypatch.setattr(gram_sums, "LARGE", N**2 * 9)

    def chosen(type, units=0):
        run = Run((SimpleNamespace(name="one"),) * 2, ((), ()), batch=N)
        room = None if units is None else Room(device=0, host=0, lanes=2, units=units)
        sums = GramSums(Asked(type=type), run, Replicas(tf.distribute.get_strategy()), room=room)
        for i, view in enumerate(sums.views):
            sums.pivot(i, {view.tap: tf.constant(features()[view.tap][:4])})
        return [sums.on_host(i) for i in range(3)], [sums.as_they_are(i) for i in range(3)]

    assert chosen("float32") == ([False, True, True], [False, True, True])  # 6, 40 and 9 features
    assert chosen("bfloat16") == ([False, True, True], [False] * 3)
    assert chosen("bfloat16", units=1) == ([False] * 3, [False] * 3)
    assert chosen("float32", units=1) == chosen("float32")
    # a room that is not given is this machine's, whose units are asked for in bfloat16 only
    monkeypatch.setattr(cores, "bfloat16_units", lambda: True)
    assert chosen("bfloat16", units=None) == chosen("bfloat16", units=1)
    monkeypatch.setattr(cores, "bfloat16_units", lambda: pytest.fail("asked for in float32"))
    assert chosen("float32", units=None) == chosen("float32")


def test_a_side_needs_its_views_and_extras():
    sums = GramSums(Asked(), Run((), ((), ()), batch=N), Replicas(tf.distribute.get_strategy()), room=ROOM)
    assert sums.letters == "xxy"
    assert sums.reads(0) == {"a", "b"} and sums.reads(1) == {"c", "images"}


def test_extras_are_added_over_micro_batches():
    """And forgotten with the minibatch, where it was here and where it was not."""
    sums = GramSums(Asked((), ()), Run((), ((), ()), batch=N), Replicas(tf.distribute.get_strategy()), room=ROOM)
    group = [tf.zeros([N], tf.int32)]
    for present, asked in ((1.0, 3.0), (0.0, 0.0)):
        for value in (1.0, 2.0):
            sums.add_extra("brightness", tf.fill([20], value))
        out = sums.finish(tf.constant(0), tf.constant(present), group)
        np.testing.assert_array_equal(out["groups/brightness"], np.full(20, asked))
