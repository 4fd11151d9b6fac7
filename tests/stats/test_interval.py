"""Intervals against their formulas, at the edges too."""

import numpy as np
import pytest
from scipy import stats

from tf_vitcnn.stats.interval import normal, wilson


@pytest.mark.parametrize(("correct", "images"), [(0, 10), (1, 3), (8, 10), (10, 10), (412, 2000)])
def test_wilson_is_wilsons_formula(correct, images):
    z, share = stats.norm.ppf(0.975), correct / images
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    np.testing.assert_allclose(wilson(correct, images), [middle - half, middle + half], atol=1e-12)


@pytest.mark.parametrize("images", [2, 7, 400])
def test_normal_is_the_mean_and_its_sample_error(images):
    values = 0.4 + 0.2 * np.random.default_rng(images).random(images)
    half = stats.norm.ppf(0.975) * stats.sem(values)
    found = normal(values.sum(), (values**2).sum(), images)
    np.testing.assert_allclose(found, [values.mean() - half, values.mean() + half], rtol=1e-9)


def test_one_image_has_no_spread_and_nothing_leaves_the_unit_interval():
    assert normal(0.5, 0.25, 1) == (0.5, 0.5)
    low, high = normal(1.0, 1.0, 2)  # 0 and 1: the half-width is above a half
    assert (low, high) == (0.0, 1.0)
    # fewer than one image's weight: the correction for the mean stays out
    low, high = normal(0.25, 0.125, 0.5)
    half = stats.norm.ppf(0.975) * np.sqrt((0.25 - 0.25) * 0.5 / 0.5)
    assert (low, high) == (0.5 - half, 0.5 + half)


def test_rounding_below_zero_is_no_spread():
    assert normal(0.3 * 3, 0.3**2 * 3 - 1e-12, 3) == pytest.approx((0.3, 0.3))
