"""Weights of PyTorch models drawn by a rule, and folders as timm and transformers write them, without PyTorch."""

import json

import numpy as np
from safetensors.numpy import save_file

from tests.golden import seeded

HERE = seeded.HERE / "torch"


def draw(name, shape):
    """One float32 array of a state dict: every kind far enough from its neutral value that a mistake shows."""
    rng = seeded._generator(name, 0)
    leaf = name.rpartition(".")[2]
    values = rng.standard_normal(shape)
    if leaf == "running_var":
        values = 1 + 0.2 * np.abs(values)
    elif leaf in ("weight", "gamma", "lambda1", "gamma_1", "gamma_2") and len(shape) == 1:
        values = 1 + 0.2 * values  # norms and LayerScale
    elif leaf in ("bias", "running_mean") or leaf.endswith("bias"):
        values = 0.1 * values
    elif len(shape) > 1 and leaf in ("weight", "in_proj_weight") and "position_embedding" not in name:
        values = values / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.5 * values  # tokens, positions, learnt queries
    return np.asarray(values, "float32")


def weights(shapes):
    """The state dict of names and shapes."""
    return {name: draw(name, tuple(shape)) for name, shape in shapes.items()}


def case(name):
    """The arrays of a case, its names and configurations parsed."""
    with np.load(HERE / f"{name}.npz") as file:
        found = dict(file)
    for key in ("shapes", "config", "processor", "taps"):
        found[key] = json.loads(str(found[key])) if key in found else None
    return found


def folder(path, found):
    """A folder with config.json and model.safetensors as the library would have written them."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(found["config"]))
    if found["processor"]:
        (path / "preprocessor_config.json").write_text(json.dumps(found["processor"]))
    save_file(weights(found["shapes"]), path / "model.safetensors")
    return path


def cases(prefix=""):
    """The names of all cases."""
    return sorted(path.stem for path in HERE.glob(f"{prefix}*.npz") if path.stem != "resample")
