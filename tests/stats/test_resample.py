"""The jackknife against the textbook's: each group left out by hand, over as many groups as hold images."""

import numpy as np
import pytest

from tf_vitcnn.stats.resample import GROUPS, linearised, of_present, standard_error, without_each


def ratio(sums):
    return sums["x"] / sums["n"]


def textbook(sums, groups):
    """Values without each group, and the delete-one error over the groups that are there."""
    left = np.array([ratio({k: s[[h for h in groups if h != g]].sum(axis=0) for k, s in sums.items()}) for g in groups])
    k = len(groups)
    return left, np.sqrt((k - 1) / k * np.sum((left - left.mean(axis=0)) ** 2, axis=0))


@pytest.fixture
def sums():
    rng = np.random.default_rng(1)
    counts = rng.integers(3, 9, GROUPS).astype(float)
    return {"x": rng.normal(2.0, 1.0, (GROUPS, 5)) * counts[:, None], "n": counts[:, None]}


def test_all_groups(sums):
    value, changes = without_each(sums, ratio)
    left, error = textbook(sums, range(GROUPS))
    np.testing.assert_allclose(value, sums["x"].sum(axis=0) / sums["n"].sum(), rtol=1e-12)
    np.testing.assert_allclose(changes, left - value, rtol=1e-9)
    np.testing.assert_allclose(standard_error(changes), error, rtol=1e-12)


@pytest.mark.parametrize("groups", [(0, 1), (4, 7, 19), tuple(range(1, GROUPS))])
@pytest.mark.parametrize("told", [False, True])
def test_some_groups_hold_images(sums, groups, told):
    """What holds none changes nothing, and the error is that of the others."""
    present = np.isin(np.arange(GROUPS), groups)
    some = {key: values * present[:, None] for key, values in sums.items()}
    _, changes = without_each(some, ratio, present if told else None)
    assert np.all(changes[~present] == 0)
    assert changes.shape == (GROUPS, 5)
    np.testing.assert_allclose(np.sqrt(np.sum(changes**2, axis=0) * (GROUPS - 1) / GROUPS), _about_value(some, groups))
    scale = np.sqrt((len(groups) - 1) / len(groups) * GROUPS / (GROUPS - 1))
    left, _ = textbook(some, groups)
    np.testing.assert_allclose(changes[list(groups)], scale * (left - ratio(_whole(some))), rtol=1e-9)


def _whole(sums):
    return {key: values.sum(axis=0) for key, values in sums.items()}


def _about_value(sums, groups):
    left, _ = textbook(sums, groups)
    return np.sqrt((len(groups) - 1) / len(groups) * np.sum((left - ratio(_whole(sums))) ** 2, axis=0))


def test_a_group_told_of_counts_though_its_sums_are_zero(sums):
    """Present groups are those that hold images: a sum of zero is a value."""
    sums["x"][3] = 0.0
    _, changes = without_each(sums, ratio)
    assert np.all(changes[3] != 0)
    none = {"x": np.zeros((GROUPS, 2))}
    present = np.ones(GROUPS, bool)
    value, changes = without_each(none, lambda total: total["x"] + 1, present)
    assert np.all(value == 1)
    assert np.all(changes == 0)


def test_one_group_says_nothing(sums):
    present = np.arange(GROUPS) == 4
    value, changes = without_each({key: values * present[:, None] for key, values in sums.items()}, ratio)
    assert np.isfinite(value).all()
    assert np.isnan(changes).all()
    assert np.isnan(standard_error(changes)).all()


def test_two_groups_say_something(sums):
    present = np.arange(GROUPS) < 2
    assert np.isfinite(of_present(np.ones((GROUPS, 3)), present)).all()


def test_what_has_no_value_has_no_error(sums):
    value, changes = without_each(sums, lambda total: np.where(np.arange(5) == 2, np.nan, ratio(total)))
    assert np.isnan(value[2])
    assert np.isnan(changes[:, 2]).all()
    assert np.isfinite(changes[:, [0, 1, 3, 4]]).all()


def test_linearised_changes_are_minus_a_nineteenth_of_the_mean_influence():
    influence = np.random.default_rng(2).normal(size=(GROUPS, 3))
    everyone = np.ones(GROUPS, bool)
    np.testing.assert_allclose(linearised(influence, everyone), -influence / 19, rtol=1e-12)
    present = np.arange(GROUPS) < 5
    scale = np.sqrt(4 / 5 * 20 / 19)
    found = linearised(influence, present)
    np.testing.assert_allclose(found[:5], -scale * influence[:5] / 4, rtol=1e-12)
    assert np.all(found[5:] == 0)
    two = linearised(influence, np.arange(GROUPS) < 2)
    np.testing.assert_allclose(two[:2], -np.sqrt(1 / 2 * 20 / 19) * influence[:2], rtol=1e-12)
    assert np.isnan(linearised(influence, np.arange(GROUPS) < 1)).all()


def test_the_error_of_a_mean_is_that_of_its_groups():
    """Twenty means of equal size: s / sqrt(20)."""
    means = np.random.default_rng(3).normal(size=(GROUPS, 4))
    _, changes = without_each({"x": means, "n": np.ones((GROUPS, 1))}, ratio)
    np.testing.assert_allclose(standard_error(changes), means.std(axis=0, ddof=1) / np.sqrt(GROUPS), rtol=1e-12)
