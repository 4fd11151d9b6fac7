"""95 % intervals of a proportion and of a mean."""

import numpy as np

Z = 1.959963984540054


def wilson(correct: int, images: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion: never outside [0, 1], sensible at 0 and 1."""
    from scipy.stats import binomtest  # slow to import, and claims need none of it

    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def normal(total: float, squares: float, images: float) -> tuple[float, float]:
    """The normal interval of a mean of values in [0, 1], from the sum and the sum of squares of per-image values."""
    mean = total / images
    variance = max(0.0, squares / images - mean**2) * images / max(1.0, images - 1)
    half = Z * float(np.sqrt(variance / images))
    return max(0.0, mean - half), min(1.0, mean + half)
