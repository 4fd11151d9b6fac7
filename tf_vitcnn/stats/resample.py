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
    (default: those with any sum that is not zero).
    """
    groups = {key: np.asarray(sums, np.float64) for key, sums in groups.items()}
    if present is None:
        present = np.any([np.any(s.reshape(len(s), -1) != 0, axis=1) for s in groups.values()], axis=0)
    total = {key: sums.sum(axis=0) for key, sums in groups.items()}
    value = np.asarray(statistic(total))
    changes = np.zeros((GROUPS, *value.shape))
    for g in np.flatnonzero(present) if present.sum() > 1 else ():
        # total minus one group, not a sum of the others: the statistic sees the same rounding each time
        changes[g] = np.asarray(statistic({k: total[k] - s[g] for k, s in groups.items()})) - value
    changes[:, np.isnan(value)] = np.nan
    return value, of_present(changes, present)


def linearised(influence: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Changes without each group from the mean influence m_g of its images [GROUPS, ...]: -m_g / (GROUPS - 1)."""
    return of_present(-influence / max(1, int(present.sum()) - 1), present)


def of_present(changes: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Changes [GROUPS, ...] where only some groups hold images: what has none changes nothing.

    The others' are scaled so that `standard_error`, which counts all groups, is that of those present; fewer than two
    say nothing (NaN).
    """
    k = int(present.sum())
    scale = np.sqrt((k - 1) / k * GROUPS / (GROUPS - 1)) if k > 1 else np.nan
    return np.where(present.reshape(-1, *[1] * (changes.ndim - 1)), scale * changes, 0.0 * scale)


def standard_error(changes: np.ndarray) -> np.ndarray:
    """The delete-one-group standard error of changes [GROUPS, ...]."""
    return np.sqrt((GROUPS - 1) * np.var(changes, axis=0))
