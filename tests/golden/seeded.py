"""Checkpoints and images drawn by the rule behind the expected outputs in this folder; see README.md."""

import hashlib
import re
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
_NORM = re.compile(r"(^|/)(LayerNorm_\d+|\w*norm|gn\w*)$")


def table(arch):
    """Shape of every array by name."""
    rows = [line.split("\t") for line in (HERE / f"tables/{arch}.txt").read_text().splitlines() if line[0] != "#"]
    return {name: tuple(int(side) for side in shape.split(",")) for name, shape in rows}


def draw(name, shape, seed=0):
    """One float32 array: N(mean, std), drawn in float64, rounded once."""
    mean, std = _mean_and_std(name, shape)
    values = _generator(name, seed).standard_normal(shape)
    values *= std  # in place: the largest arrays are large
    values += mean
    return values.astype("float32")


def weights(arch, seed=0):
    """The checkpoint of one architecture."""
    return {name: draw(name, shape, seed) for name, shape in table(arch).items()}


def images(n, size, seed=0):
    """[n, size, size, 3] in [-1, 1]: smooth random pictures with fine noise."""
    return np.stack([_image(f"image/{size}/{i}", size, seed) for i in range(n)]).astype("float32")


def summary(array):
    """Mean, standard deviation and 8 values at fixed places: the 10 numbers of one `stats` row."""
    flat = np.asarray(array).reshape(-1)
    places = (np.arange(8) * (flat.size - 1)) // 7
    wide = flat.astype("float64")
    return np.array([wide.mean(), wide.std(), *wide[places]])


def fingerprint(arrays):
    """SHA-256 over names and bytes, in the order of the sorted names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(arrays[name], dtype="<f4").data)
    return digest.hexdigest()


def _generator(name, seed):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) ^ seed))


def _mean_and_std(name, shape):
    parent, _, leaf = name.rpartition("/")
    kind = parent.rpartition("/")[2]
    if leaf in ("scale", "gamma"):
        return 1.0, 0.1
    if leaf == "beta" or (leaf == "bias" and _NORM.search(parent)):
        return 0.0, 0.1
    if leaf in ("pos_embedding", "cls"):
        return 0.0, 0.5
    if leaf == "kernel":
        heads = kind in ("query", "key", "value") and len(shape) == 3
        fan_in = shape[0] if heads else int(np.prod(shape[:-1]))
        return 0.0, (2.0 if kind in ("query", "key") else 1.0) / np.sqrt(fan_in)
    return 0.0, 0.02


def _image(name, size, seed):
    rng = _generator(name, seed)
    coarse, medium = (_enlarge(rng.uniform(-1.0, 1.0, (g, g, 3)), size) for g in (5, 17))
    return np.clip(coarse + 0.4 * medium + 0.1 * rng.uniform(-1.0, 1.0, (size, size, 3)), -1.0, 1.0)


def _enlarge(grid, size):
    """Bilinear enlargement of (g, g, c) to (size, size, c), corners on corners."""
    g = grid.shape[0]
    position = np.arange(size) * ((g - 1) / (size - 1))
    low = np.minimum(position.astype("int64"), g - 2)
    part = position - low
    rows = grid[low] * (1 - part)[:, None, None] + grid[low + 1] * part[:, None, None]
    return rows[:, low] * (1 - part)[:, None] + rows[:, low + 1] * part[:, None]
