"""Standard errors from sums kept in groups: delete one group at a time (jackknife)."""

from collections.abc import Callable, Mapping

import numpy as np

Groups = Mapping[str, np.ndarray]  # each [G, ...]


def jackknife(
    groups: Groups, statistic: Callable[[Groups], np.ndarray], present: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of the totals and its delete-one-group standard error (NaN with fewer than two groups).

    `statistic` maps sums without the group axis to an array. `present` [G] says which groups hold images
    (default: those with any sum that is not zero).
    """
    groups = {key: np.asarray(sums, np.float64) for key, sums in groups.items()}
    if present is None:
        present = np.any([np.any(s.reshape(len(s), -1) != 0, axis=1) for s in groups.values()], axis=0)
    total = {key: sums.sum(axis=0) for key, sums in groups.items()}
    value = np.asarray(statistic(total))
    kept = np.flatnonzero(present)
    if len(kept) < 2:
        return value, np.full(value.shape, np.nan)
    # total minus one group, not a sum of the others: the statistic sees the same rounding each time
    partial = [np.asarray(statistic({k: total[k] - s[g] for k, s in groups.items()})) for g in kept]
    spread = np.sum((np.stack(partial) - np.mean(partial, axis=0)) ** 2, axis=0)
    return value, np.sqrt((len(kept) - 1) / len(kept) * spread)


def over_repeats(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over repeats [R, ...] and the standard error of that mean (NaN for one repeat)."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return values[0], np.full(values.shape[1:], np.nan)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
