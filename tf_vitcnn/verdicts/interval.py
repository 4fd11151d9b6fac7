"""What a number computed from tables would be with other images of the same kind: for any pure function of tables.

A table's groups hold, per value, what changes when one of the 20 groups of images is left out (tables/groups.py).
f_g is the statistic of the tables moved by group g's changes, and

    se^2 = 19/20 sum_g (f_g - mean f)^2,   interval = value -+ t_19 se.

Tables that saw the same images move together; others move alone, and their variances add. A statistic that jumps (a
median depth, a best match) has no use for so small a move: it is taken of 200 random weightings of the groups, whose
spread of a smooth statistic is the one above (normal around 1, with the tails of t_19), and the interval is their
percentiles.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

GROUPS = 20
WEIGHTINGS = 200
CHUNK = 50  # tables moved in one product
T19 = 2.0930240544083  # two-sided 95 % of Student's t with 19 degrees


class Interval(NamedTuple):
    """A number, its standard error over images, and the interval that other images would leave it in."""

    value: float
    se: float
    low: float
    high: float


def interval(
    tables: pd.DataFrame | Sequence[pd.DataFrame],
    statistic: Callable[..., float],
    level: float = 0.95,
    *,
    jumps: bool = False,
    seed: int = 0,
) -> Interval:
    """Value, standard error, low and high of `statistic(*tables)`, a pure function of one or several tables.

    The tables are as `read_table` gives them; without groups (made before there were any) the errors are NaN. `jumps`:
    the statistic changes in steps, so take random weightings (`seed` fixes them).
    """
    several = [tables] if isinstance(tables, pd.DataFrame) else list(tables)
    samples = [sample(table) for table in several]
    found = spread(samples, lambda moved: [float(statistic(*moved))], level, jumps=jumps, seed=seed)
    return Interval(*(float(part[0]) for part in found))


@dataclass(frozen=True, eq=False)
class Sample:
    """A table, the changes of its values without each group of images [GROUPS, rows], and which images these are."""

    table: pd.DataFrame
    changes: Mapping[str, np.ndarray] | None
    images: Hashable

    @cached_property
    def _values(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Each moving column and its changes, in the type that they are added in."""
        return {
            column: (self.table[column].to_numpy(np.float64), np.asarray(change, np.float64))
            for column, change in (self.changes or {}).items()
        }

    def moved(self, steps: np.ndarray) -> Iterator[pd.DataFrame]:
        """For each of `steps` [n, GROUPS] the table with so many times the changes added to its values."""
        for start in range(0, len(steps), CHUNK):
            some = steps[start : start + CHUNK]
            # one product for many: each alone costs more in waking the cores than in numbers
            values = {column: value + some @ change for column, (value, change) in self._values.items()}
            for i in range(len(some)):
                found = self.table.copy(deep=False)
                for column, each in values.items():
                    found[column] = each[i]
                yield found


def sample(table: pd.DataFrame) -> Sample:
    """A table as `read_table` gives it; one without a sidecar saw images of its own."""
    sidecar = table.attrs.get("sidecar")
    bare = table.copy(deep=False)
    bare.attrs = {"sidecar": sidecar} if sidecar else {}
    return Sample(bare, table.attrs.get("groups"), images_of(sidecar) if sidecar else id(table))


def images_of(sidecar: Mapping[str, Any]) -> Hashable:
    """Which images a table's groups are made of: source, count and draw; of a probe all test images, in an order."""
    data, parameters = sidecar.get("data") or {}, sidecar.get("parameters") or {}
    drawn = parameters.get("seed"), str(data.get("skipped") or "")
    if data.get("test"):
        return "test", data["test"], *drawn
    return data.get("fingerprint") or data.get("spec"), parameters.get("images", data.get("images")), *drawn


class Spread(NamedTuple):
    """Arrays [k] of k numbers computed from the same tables."""

    value: np.ndarray
    se: np.ndarray
    low: np.ndarray
    high: np.ndarray


def spread(
    samples: Sequence[Sample],
    numbers: Callable[[Sequence[pd.DataFrame]], Sequence[float]],
    level: float = 0.95,
    *,
    jumps: bool = False,
    seed: int = 0,
) -> Spread:
    """Intervals of several numbers of the same tables; NaN where a table has no groups."""
    value = np.asarray(numbers([s.table for s in samples]), np.float64)
    unknown = np.full(value.shape, np.nan)
    if any(s.changes is None for s in samples):
        return Spread(value, unknown, unknown, unknown)
    kinds = list(dict.fromkeys(s.images for s in samples))
    own = [kinds.index(s.images) for s in samples]

    def at(steps: np.ndarray) -> np.ndarray:  # [n, kinds, GROUPS] -> [n, k]
        moved = [s.moved(steps[:, k]) for s, k in zip(samples, own, strict=True)]
        return np.array([numbers(tables) for tables in zip(*moved, strict=True)], np.float64)

    return _weighted(value, at, len(kinds), level, seed) if jumps else _jackknife(value, at, len(kinds), level)


At = Callable[[np.ndarray], np.ndarray]


def _jackknife(value: np.ndarray, at: At, kinds: int, level: float) -> Spread:
    variance = np.zeros(value.shape)
    for kind in range(kinds):
        steps = np.zeros((GROUPS, kinds, GROUPS))
        steps[:, kind] = np.eye(GROUPS)
        without = at(steps)  # [GROUPS, k]
        variance += (GROUPS - 1) / GROUPS * np.sum((without - without.mean(axis=0)) ** 2, axis=0)
    se = np.sqrt(variance)
    half = _t(level) * se
    return Spread(value, se, value - half, value + half)


def _weighted(value: np.ndarray, at: At, kinds: int, level: float, seed: int) -> Spread:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((WEIGHTINGS, kinds, GROUPS))
    tails = np.sqrt((GROUPS - 1) / random.chisquare(GROUPS - 1, (WEIGHTINGS, 1, 1)))
    # weights 1 + w move a value by -19/20 sum_g w_g change_g; of a smooth one the variance is the jackknife's
    moved = at(-np.sqrt((GROUPS - 1) / GROUPS) * (weights - weights.mean(axis=-1, keepdims=True)) * tails)
    low, high = np.quantile(moved, [(1 - level) / 2, (1 + level) / 2], axis=0)
    se = moved.std(axis=0, ddof=1) * np.sqrt((GROUPS - 3) / (GROUPS - 1))  # t_19 is wider than normal
    return Spread(value, se, low, high)


def _t(level: float) -> float:
    if level == 0.95:
        return T19
    from scipy.stats import t  # slow to import, and claims need none of it

    return float(t.ppf((1 + level) / 2, GROUPS - 1))
