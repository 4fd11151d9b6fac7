"""How far each analysis' numbers move with `--compute`, against the same network in float64: a table, on CPUs.

    python benchmarks/accelerators/accuracy.py [--model vit_b32] [--images 64] [--out FILE.csv]

Random weights and drawings of digits: networks that have learned spread their features otherwise. What an analysis
multiplies itself stays float32 in all runs; with `cka_bfloat16` Gram products take bfloat16 (`--precision`).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import tf_vitcnn
from tf_vitcnn.devices.precision import CHOICES
from tf_vitcnn.subject import Subject

MEASURES = {
    "cka": ("cka", {"repeats": 1, "batch": 32}),
    "cka_bfloat16": ("cka", {"repeats": 1, "batch": 32, "precision": "bfloat16"}),
    "attention_distance": ("distance_px", {}),
    "skip_ratio": ("ratio", {}),
    "probe": ("accuracy", {"test": "digits:test"}),
}


class Wide(Subject):
    """A subject whose taps are computed in float64; analyses take float32."""

    def expose(self, names: Any) -> Any:
        """As every subject's."""
        model = super().expose(names)

        def call(images: Any, training: bool = False) -> dict[str, Any]:
            return {name: tf.cast(tap, tf.float32) for name, tap in model(images, training=training).items()}

        return call


def wide(subject: Subject) -> Subject:
    """The same network in float64, its taps given in float32."""
    policy = keras.DTypePolicy("float64")

    def in_policy(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": policy})

    model = keras.models.clone_model(subject.model, clone_function=in_policy)
    model.set_weights([np.asarray(weight, np.float64) for weight in subject.model.get_weights()])
    return Wide(**{field.name: getattr(subject, field.name) for field in fields_of(subject)} | {"model": model})


def moved(found: pd.DataFrame, exact: pd.DataFrame, column: str) -> dict[str, float]:
    """The largest and the median distance of a column's numbers, and their largest share of the number."""
    a, b = found[column].to_numpy(float), exact[column].to_numpy(float)
    off = np.abs(a - b)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(b != 0, off / np.abs(b), np.nan)
    return {"largest": np.nanmax(off), "median": np.nanmedian(off), "largest_share": np.nanmax(share)}


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b32")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--only", nargs="*", default=list(MEASURES))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    subject = tf_vitcnn.load(f"{asked.model}@random")
    exact, rows = wide(subject), []
    for name in asked.only:
        column, fields = MEASURES[name]
        analysis = name.removesuffix("_bfloat16")
        fields = {**fields, "images": None if analysis == "probe" else asked.images}
        plain = {key: value for key, value in fields.items() if key != "precision"}
        reference = tf_vitcnn.run(analysis, exact, "digits:train", **plain)
        for compute in CHOICES:
            table = tf_vitcnn.run(analysis, subject, "digits:train", compute=compute, **fields)
            rows.append({"analysis": name, "compute": compute, "column": column, **moved(table, reference, column)})
            print(rows[-1], flush=True)
    if asked.out:
        pd.DataFrame(rows).to_csv(asked.out, index=False, float_format="%.2g", lineterminator="\n")


if __name__ == "__main__":
    main()
