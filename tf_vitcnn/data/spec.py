"""What a data spec may be; what is misspelt is refused with advice, without TensorFlow."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from tf_vitcnn.errors import BadInput, unknown

KINDS = ("folder", "npz", "digits", "noise")
SPECS = "NAME:SPLIT (tensorflow_datasets), folder:DIR, npz:FILE, digits:train, digits:test or noise"
DIGITS = ("train", "test")


def refuse_misspelt(spec: str, data_dir: str | None = None) -> None:
    """Refuses a spec that can name nothing."""
    kind, colon, rest = spec.partition(":")
    if kind == "noise":
        return
    if not colon or not rest:
        raise BadInput(f"data {spec!r}: {_advice(spec)}")
    if kind == "digits" and rest not in DIGITS:
        raise unknown("split of digits", rest, DIGITS)
    near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.7)
    if kind not in KINDS and near and "/" not in kind and not _prepared(kind, data_dir):
        raise BadInput(f"data {spec!r}: did you mean {f'{near[0]}:{rest}'!r}? Expected {SPECS}")


def _advice(spec: str) -> str:
    """What to write instead."""
    if spec.endswith(".npz"):
        return f"expected npz:{spec}"
    if Path(spec).is_dir():
        return f"expected folder:{spec}"
    if difflib.get_close_matches(spec, ["digits"], n=1, cutoff=0.7):
        return "expected digits:train or digits:test"
    return f"expected {SPECS}"


def _prepared(name: str, data_dir: str | None) -> bool:
    """Whether tensorflow_datasets may have a set of that name: what is not on this disk cannot be told."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return "://" in root or (Path(root).expanduser() / name).exists()
