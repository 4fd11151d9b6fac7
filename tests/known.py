"""Tables whose errors over images are known: small, seeded changes for every group of images."""

from dataclasses import replace

import numpy as np


def known(
    result,
    error=1e-6,
    values=("cka", "distance_px", "gradient", "ratio", "cosine", "accuracy", "number", "rsa", "knn", "value"),
):
    """The result with groups: each value's standard error is `error`, changes independent of each other."""
    random = np.random.default_rng(len(result.table))
    groups = {}
    for column in set(values) & set(result.table):
        changes = random.standard_normal((20, len(result.table)))
        changes -= changes.mean(axis=0)
        changes /= np.sqrt(19 / 20 * np.sum(changes**2, axis=0))
        groups[column] = (error * changes).astype("float32")
    return replace(result, groups=groups, memo={})
