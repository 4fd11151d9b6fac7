"""DINOv2 in nothing but Keras' own layers, from the weights that transformers names, as a user would write it.

python benchmarks/dinov2_plain.py --weights FILE.safetensors --photographs DIR [--images 60]

Saved as `.keras` and opened by tracing, it must give the tables that the reader of released files gives: the largest
difference of each table's numbers is printed. Exits 1 above `--at-most`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import layers
from safetensors.numpy import load_file

import tf_vitcnn
from benchmarks.dinov2_reference import CONFIG, released

ANALYSES: dict[str, dict[str, int]] = {
    **{"attention_distance": {}, "skip_ratio": {}, "tokens": {}},
    **{"cka": {"batch": 20, "repeats": 2}, "localization": {"batch": 20}},
}


def network(
    arrays: Mapping[str, np.ndarray], positions: np.ndarray, config: Mapping[str, Any], size: int
) -> keras.Model:
    """The functional model with these weights; `positions` [1 + h w, d] are those of images of that size."""
    d, heads, patch = config["hidden_size"], config["num_attention_heads"], config["patch_size"]
    image = keras.Input((size, size, 3))
    filled: list[tuple[layers.Layer, list[np.ndarray]]] = []

    def layer(new: layers.Layer, x: Any, *weights: np.ndarray, **call: Any) -> Any:
        out = new(x, **call)
        filled.append((new, list(weights)))
        return out

    def norm(x: Any, name: str) -> Any:
        new = layers.LayerNormalization(epsilon=config["layer_norm_eps"])
        return layer(new, x, arrays[f"{name}.weight"], arrays[f"{name}.bias"])

    def dense(x: Any, name: str, **more: Any) -> Any:
        return layer(layers.Dense(len(arrays[f"{name}.bias"]), **more), x, *linear(name))

    def linear(name: str) -> tuple[np.ndarray, np.ndarray]:
        return arrays[f"{name}.weight"].T, arrays[f"{name}.bias"]

    def scaled(x: Any, name: str) -> Any:
        return layer(layers.EinsumDense("btc,c->btc", (None, d)), x, arrays[f"{name}.lambda1"])

    def attention(x: Any, name: str) -> Any:
        new = layers.MultiHeadAttention(heads, d // heads, flash_attention=False)
        weights = []
        for each in ("attention.query", "attention.key", "attention.value"):
            kernel, bias = linear(f"{name}.{each}")
            weights += [kernel.reshape(d, heads, -1), bias.reshape(heads, -1)]
        kernel, bias = linear(f"{name}.output.dense")
        return layer(new, x, *weights, kernel.reshape(heads, -1, d), bias, value=x)

    embed = "embeddings.patch_embeddings.projection"
    kernel = arrays[f"{embed}.weight"].transpose(2, 3, 1, 0)
    x = layer(layers.Conv2D(d, patch, patch, name="patches"), image, kernel, arrays[f"{embed}.bias"])
    x = layers.ZeroPadding1D((1, 0))(layers.Reshape((-1, d))(x))  # a place for the class token
    first = np.concatenate([arrays["embeddings.cls_token"][0], np.zeros_like(positions[1:])])
    tokens = layers.EinsumDense("btc,c->btc", positions.shape, bias_axes="tc")
    x = layer(tokens, x, np.ones(d, "float32"), positions + first)
    for i in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{i}"
        x = x + scaled(attention(norm(x, f"{block}.norm1"), f"{block}.attention"), f"{block}.layer_scale1")
        hidden = dense(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1", activation="gelu")
        x = x + scaled(dense(hidden, f"{block}.mlp.fc2"), f"{block}.layer_scale2")
    model = keras.Model(image, norm(x, "layernorm"))
    for each, weights in filled:
        each.set_weights(weights)
    return model


def positions_of(subject: tf_vitcnn.Subject) -> np.ndarray:
    """The position embeddings [1 + h w, d] of an opened release, at its images' size."""
    (found,) = (w for w in subject.model.weights if w.path.endswith("pos_embedding"))
    return np.asarray(found)[0]


def differences(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """The largest difference of two tables' numbers, as a share of a column's largest value."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} rows and {len(other)}")
    numbers = one.select_dtypes("number").columns.intersection(other.columns)
    both = [(one[c].to_numpy(), other[c].to_numpy()) for c in numbers]
    if any((np.isnan(a) != np.isnan(b)).any() for a, b in both):
        raise ValueError("a number is missing in one table only")
    return max(float(np.nanmax(np.abs(a - b)) / max(np.nanmax(np.abs(a)), 1e-30)) for a, b in both)


def main() -> int:
    """Prints the largest difference of each analysis."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--at-most", type=float, default=1e-5)
    asked = parser.parse_args()
    release = released(asked.weights)
    with tempfile.TemporaryDirectory() as folder:
        made = network(load_file(asked.weights), positions_of(release), CONFIG, release.model.inputs[0].shape[1])
        made.save(path := f"{folder}/plain.keras")
        plain = tf_vitcnn.load(path, name=release.name, preprocessing=release.preprocessing)
        worst = 0.0
        for analysis, fields in ANALYSES.items():
            setting = {"images": asked.images, "data": f"folder:{asked.photographs}", **fields}
            tables = [tf_vitcnn.run(analysis, subject, **setting) for subject in (release, plain)]
            worst = max(worst, found := differences(*tables))
            print(f"{analysis:24} {len(tables[0])} rows, {found:.1e}", flush=True)
    print(f"largest {worst:.1e}, at most {asked.at_most:g} asked for")
    return int(worst > asked.at_most)


if __name__ == "__main__":
    raise SystemExit(main())
