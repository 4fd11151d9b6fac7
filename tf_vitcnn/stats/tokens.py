"""Token norms: their quantiles, and the tokens far above the rest; all of it without any one group of images too.

Some transformers keep a few tokens whose norm is many times that of the others, on patches without much to say (Darcet
et al., 2024, "Vision Transformers Need Registers"). An outlier is a token whose norm exceeds a multiple of its layer's
median, or an absolute cut. Everything here is NumPy on norms [images, tokens]; delete-one values come from one sort.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

PERCENTS = (0, 1, 10, 50, 90, 99, 100)
MEDIAN = PERCENTS.index(50)
BINS = 40


class Sorted:
    """The norms of one layer in order, with the group of images that each comes from."""

    def __init__(self, norms: np.ndarray, group: np.ndarray) -> None:
        flat = np.asarray(norms, np.float32).ravel()
        order = np.argsort(flat, kind="stable")
        self.values = flat[order]
        self.group = np.repeat(group, norms.shape[1])[order].astype(np.int8)

    def without(self, group: int | None) -> np.ndarray:
        """The norms of all images but one group's, in order."""
        return self.values if group is None else self.values[self.group != group]


def quantiles(ordered: np.ndarray) -> np.ndarray:
    """The norms at PERCENTS, interpolated linearly between neighbours, of norms in order; NaN of none."""
    if not len(ordered):
        return np.full(len(PERCENTS), np.nan)
    place = np.asarray(PERCENTS) / 100 * (len(ordered) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(ordered) - 1)
    share = place - low
    return ordered[low] * (1 - share) + ordered[high].astype(np.float64) * share


class Outliers(NamedTuple):
    """Shares over images and tokens."""

    cut: float  # the norm above which a token is one
    share: float  # of the tokens that are
    attention: float  # of the attention that they draw; NaN where there are no probabilities
    places: np.ndarray  # [tokens] share of the images in which the token is one


def outliers(norms: np.ndarray, received: np.ndarray | None, cut: float) -> Outliers:
    """Which norms [images, tokens] exceed the cut, and the share that they take of `received`.

    `received` [images, tokens of any kind] is each token's share of its image's attention; the spatial ones come last.
    """
    if not len(norms) or not cut > 0:
        return Outliers(cut, np.nan, np.nan, np.full(norms.shape[1], np.nan))
    far = norms > cut
    drawn = np.nan
    if received is not None:
        spatial = received[:, received.shape[1] - norms.shape[1] :]
        drawn = float(spatial[far].sum(dtype=np.float64) / received.sum(dtype=np.float64))
    return Outliers(cut, float(far.mean()), drawn, far.mean(axis=0))


def histogram(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the norms, in order, in each bin; the last bin holds its upper edge."""
    at = np.searchsorted(ordered, edges, side="left")
    at[-1] = len(ordered)
    return np.diff(at) / max(1, len(ordered))


def edges(ordered: np.ndarray) -> np.ndarray:
    """BINS bins of equal ratio from the smallest norm above zero to the largest."""
    above = ordered[np.searchsorted(ordered, 0, side="right") :]
    if not len(above):
        return np.array([])
    found = np.geomspace(above[0], above[-1], BINS + 1)
    found[0], found[-1] = above[0], above[-1]
    return found


def neighbours(grid: tuple[int, int]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """The two ways in which tokens of a grid lie side by side: (one, the other) as slices of rows and columns."""
    rows, cols = grid
    if cols > 1:
        yield (slice(None), slice(0, cols - 1)), (slice(None), slice(1, cols))
    if rows > 1:
        yield (slice(0, rows - 1), slice(None)), (slice(1, rows), slice(None))
