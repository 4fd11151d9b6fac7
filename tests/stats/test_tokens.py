import numpy as np
import pytest

from tf_vitcnn.stats import tokens

RNG = np.random.default_rng(0)
NORMS = RNG.lognormal(size=(43, 12)).astype(np.float32)
GROUP = np.arange(43) % 20


@pytest.mark.parametrize("group", [None, 0, 7, 19])
def test_quantiles_without_a_group_are_those_of_the_other_images(group):
    kept = NORMS if group is None else NORMS[group != GROUP]
    found = tokens.quantiles(tokens.Sorted(NORMS, GROUP).without(group))
    np.testing.assert_allclose(found, np.quantile(kept, np.array(tokens.PERCENTS) / 100), rtol=1e-6)


def test_no_norm_has_no_quantile():
    assert np.isnan(tokens.quantiles(np.array([], np.float32))).all()


def test_outliers_are_found_with_their_places_and_the_attention_they_draw():
    norms = np.ones((4, 6))
    norms[[0, 1, 3], [5, 5, 2]] = 9
    received = np.full((4, 7), 0.5 / 6)  # the class token first, with half of all
    received[:, 0] = 0.5
    found = tokens.outliers(norms, received, cut=3)
    assert found.share == 3 / 24
    assert list(found.places) == [0, 0, 0.25, 0, 0, 0.5]
    assert found.attention == pytest.approx(3 * 0.5 / 6 / 4)
    assert tokens.outliers(norms, received, cut=9).share == 0  # above the cut, not at it
    assert np.isnan(tokens.outliers(norms, None, cut=3).attention)


def test_without_a_cut_there_is_no_share():
    """Tokens that are all zero have a median of zero: three times nothing cuts nothing off."""
    assert np.isnan(tokens.outliers(np.zeros((2, 3)), None, cut=0).share)


def test_the_histogram_counts_every_norm_once():
    ordered = np.sort(NORMS.ravel())
    bins = tokens.edges(ordered)
    shares = tokens.histogram(ordered, bins)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares, np.histogram(ordered, bins)[0] / ordered.size)
    np.testing.assert_allclose(bins[1:] / bins[:-1], bins[1] / bins[0], rtol=1e-5)
    assert len(tokens.edges(np.zeros(3))) == 0


@pytest.mark.parametrize(("grid", "pairs"), [((2, 3), 7), ((1, 3), 2), ((3, 1), 2), ((2, 1), 1), ((1, 1), 0)])
def test_neighbours_are_all_tokens_one_step_apart(grid, pairs):
    places = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1)
    found = [(a, b) for one, other in tokens.neighbours(grid) for a, b in zip(places[one], places[other], strict=True)]
    steps = np.concatenate([np.abs(b - a).reshape(-1, 2) for a, b in found]) if found else np.zeros((0, 2))
    assert len(steps) == pairs
    assert np.all(steps.sum(axis=1) == 1)


def test_the_edges_are_the_smallest_and_the_largest_norm_to_the_bit():
    ordered = np.sort(np.r_[np.float32([0, 0]), NORMS.ravel()])
    found = tokens.edges(ordered)
    assert len(found) == tokens.BINS + 1
    assert (found[0], found[-1]) == (NORMS.min(), NORMS.max())
    assert tokens.histogram(np.array([], np.float32), found).sum() == 0
