"""Intervals of statistics of tables, against a jackknife and a bootstrap over the images themselves."""

import numpy as np
import pandas as pd
import pytest

from tf_vitcnn.verdicts.interval import T19, interval

GROUPS = 20


def table(images, fingerprint="f", seed=0):
    """A table of column means of images [n, rows], with the delete-one-group changes, as an analysis would write it."""
    group = np.arange(len(images)) % GROUPS
    value = images.mean(axis=0)
    without = np.stack([images[group != g].mean(axis=0) for g in range(GROUPS)])
    made = pd.DataFrame({"key": np.arange(images.shape[1]), "number": value})
    made.attrs["groups"] = {"number": (without - value).astype("float32")}
    made.attrs["sidecar"] = {"data": {"fingerprint": fingerprint}, "parameters": {"images": len(images), "seed": seed}}
    return made


def images(seed, n=400, rows=6):
    random = np.random.default_rng(seed)
    common = random.gamma(2.0, 1.0, (n, 1))
    return common * (1 + np.arange(rows)) + random.standard_normal((n, rows)) + 3


def ratio(a):
    return a.number.iloc[4] / a.number.iloc[1]


def test_the_error_is_the_plain_jackknife_over_groups_of_images():
    pixels = images(0)
    group = np.arange(len(pixels)) % GROUPS
    each = [pixels[group != g].mean(axis=0) for g in range(GROUPS)]
    each = np.array([m[4] / m[1] for m in each])
    se = np.sqrt(19 / 20 * np.sum((each - each.mean()) ** 2))
    found = interval(table(pixels), ratio)
    assert found.value == pytest.approx(pixels.mean(axis=0)[4] / pixels.mean(axis=0)[1])
    assert found.se == pytest.approx(se, rel=1e-4)
    assert (found.low, found.high) == pytest.approx((found.value - T19 * se, found.value + T19 * se))


def test_the_error_agrees_with_a_bootstrap_of_the_images():
    pixels, random = images(1, n=2000), np.random.default_rng(0)
    draws = random.integers(0, len(pixels), (2000, len(pixels)))
    means = np.stack([pixels[d].mean(axis=0) for d in draws])
    spread = (means[:, 4] / means[:, 1]).std()
    assert interval(table(pixels), ratio).se == pytest.approx(spread, rel=0.35)  # 20 groups: 16 % of noise
    every = np.mean([interval(table(images(s, n=2000)), ratio).se for s in range(20)])
    truth = np.std([ratio(table(images(s, n=2000))) for s in range(400)])
    assert every == pytest.approx(truth, rel=0.1)


def test_tables_of_the_same_images_move_together_and_others_alone():
    pixels = images(2)
    a, b = table(pixels), table(pixels + 1)
    together = interval([a, b], lambda x, y: x.number.iloc[0] - y.number.iloc[0])
    assert together.se == pytest.approx(0, abs=1e-6)
    other = table(images(3), fingerprint="g")
    alone = interval([a, other], lambda x, y: x.number.iloc[0] - y.number.iloc[0])
    each = [interval(t, lambda x: x.number.iloc[0]).se for t in (a, other)]
    assert alone.se == pytest.approx(np.hypot(*each), rel=1e-6)
    another_draw = table(pixels, seed=1)
    assert interval([a, another_draw], lambda x, y: x.number.sum() - y.number.sum()).se > 0.1


def test_probes_move_together_where_their_test_images_came_in_one_order():
    pixels = images(2)
    first, same, other = (table(pixels, fingerprint=f"training {seed}", seed=seed) for seed in (0, 0, 1))
    for probe in (first, same, other):
        probe.attrs["sidecar"]["data"]["test"] = "t"
    same.attrs["sidecar"]["data"]["fingerprint"] = "other training images"
    difference = lambda x, y: x.number.sum() - y.number.sum()  # noqa: E731
    assert interval([first, same], difference).se == pytest.approx(0, abs=1e-6)
    assert interval([first, other], difference).se > 0.1


def test_weightings_give_a_smooth_statistic_the_same_interval():
    made = table(images(4))
    smooth, jumping = (interval(made, ratio, jumps=jumps) for jumps in (False, True))
    assert jumping.se == pytest.approx(smooth.se, rel=0.15)
    assert jumping.low == pytest.approx(smooth.low, abs=0.4 * smooth.se)
    assert jumping.high == pytest.approx(smooth.high, abs=0.4 * smooth.se)
    assert interval(made, ratio, jumps=True) == jumping
    assert interval(made, ratio, jumps=True, seed=1) != jumping


def test_a_statistic_that_jumps_shows_its_steps():
    """The place of the largest of two close numbers: leaving one group out never changes it, other images would."""
    pixels = images(5)[:, :2]
    noise = np.random.default_rng(0).standard_normal(len(pixels))
    pixels[:, 1] = pixels[:, 0].mean() - 0.08 + noise - noise.mean()
    made = table(pixels)
    assert interval(made, lambda t: t.number.to_numpy().argmax()).se == 0
    assert interval(made, lambda t: t.number.to_numpy().argmax(), jumps=True)[2:] == (0, 1)


def test_without_groups_the_error_is_unknown():
    made = table(images(6))
    del made.attrs["groups"]
    found = interval(made, ratio)
    assert found.value == pytest.approx(ratio(made))
    assert np.isnan(found[1:]).all()


def test_other_levels():
    made = table(images(7))
    narrow, wide = interval(made, ratio, 0.5), interval(made, ratio, 0.99)
    assert wide.high - wide.value == pytest.approx(2.8609 * wide.se, rel=1e-4)
    assert narrow.high - narrow.value == pytest.approx(0.6876 * narrow.se, rel=1e-3)


def test_the_interval_covers_the_truth():
    truth = (2.0 * 5 + 3) / (2.0 * 2 + 3)
    inside = [f.low < truth < f.high for f in (interval(table(images(s, n=100)), ratio) for s in range(300))]
    assert 0.92 <= np.mean(inside) <= 0.98


def test_paths_and_tables_are_the_same_to_it(tmp_path):
    """The public door, on a table that a run made and one read back from disk."""
    import tf_vitcnn
    from tests import toys
    from tf_vitcnn.tables.write import write_table

    made = tf_vitcnn.run("skip_ratio", toys.shared("vit"), "digits:test", images=60)
    write_table(tmp_path / "vit", made, made.attrs["sidecar"])

    def late_over_early(table):
        return table.ratio.iloc[-1] / table.ratio.iloc[0]

    found = tf_vitcnn.interval(made, late_over_early)
    again = tf_vitcnn.interval(tmp_path / "vit.csv", late_over_early)
    assert found.se > 0
    assert again == pytest.approx(found, rel=1e-4)
    both = tf_vitcnn.interval([made, tmp_path / "vit.csv"], lambda a, b: late_over_early(a) - late_over_early(b))
    assert both.se < 1e-4 * found.se
