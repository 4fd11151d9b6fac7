"""What a statistic changes by without each group of images, and the standard error that this gives (jackknife)."""

from collections.abc import Callable, Mapping

import numpy as np

GROUPS = 20  # of images, by their own identity
Groups = Mapping[str, np.ndarray]  # each [GROUPS, ...]


def without_each(
    groups: Groups, statistic: Callable[[Groups], np.ndarray], present: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of the totals, and its changes [GROUPS, ...] without each group (NaN with fewer than two).

    `statistic` maps sums without the group axis to an array. `present` [GROUPS] says which groups hold images
    (default: those with any sum that is not zero). What has none changes nothing; the others' changes are scaled so
    that `standard_error`, which counts all groups, is that of those present.
    """
    groups = {key: np.asarray(sums, np.float64) for key, sums in groups.items()}
    if present is None:
        present = np.any([np.any(s.reshape(len(s), -1) != 0, axis=1) for s in groups.values()], axis=0)
    total = {key: sums.sum(axis=0) for key, sums in groups.items()}
    value = np.asarray(statistic(total))
    kept = np.flatnonzero(present)
    if len(kept) < 2:
        return value, np.full((GROUPS, *value.shape), np.nan)
    changes = np.zeros((GROUPS, *value.shape))
    for g in kept:
        # total minus one group, not a sum of the others: the statistic sees the same rounding each time
        changes[g] = np.asarray(statistic({k: total[k] - s[g] for k, s in groups.items()})) - value
    changes[:, np.isnan(value)] = np.nan
    return value, changes * np.sqrt((len(kept) - 1) / len(kept) * GROUPS / (GROUPS - 1))


def linearised(influence: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Changes without each group from the mean influence of its images [GROUPS, ...]: -m_g / (GROUPS - 1).

    With k groups present they are scaled so that the formula of GROUPS groups gives sum m_g² / (k (k - 1)).
    """
    k = int(present.sum())
    scale = np.sqrt(GROUPS / ((GROUPS - 1) * k * (k - 1))) if k > 1 else np.nan
    return np.where(present.reshape(-1, *[1] * (influence.ndim - 1)), -scale * influence, 0 * scale * influence)


def standard_error(changes: np.ndarray) -> np.ndarray:
    """The delete-one-group standard error of changes [GROUPS, ...]."""
    return np.sqrt((GROUPS - 1) * np.var(changes, axis=0))
