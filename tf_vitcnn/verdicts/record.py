"""Whether a sidecar is one that claims can read: its parts, and the types of what they ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tf_vitcnn.errors import BadInput, Unanswerable
from tf_vitcnn.tables.schema import Sidecar
from tf_vitcnn.verdicts.structure import structure_of

PARTS: dict[str, type] = {"subjects": list, "parameters": dict, "data": dict}
Number = (int, float)
SUBJECT: dict[str, Any] = {
    **dict.fromkeys(("family", "pool", "spec", "weights_sha256", "trained_on", "finetuned_from"), str),
    **dict.fromkeys(("variant", "source", "domain", "data_fingerprint"), str),
    **dict.fromkeys(("patch_size", "depth", "training_images", "validation_images", "parameters", "classes"), int),
    **dict.fromkeys(("final_accuracy", "fraction"), Number),
    **dict.fromkeys(("recipe", "structure"), dict),
}
LISTS = {"taps": str, "no_skip": int, "image_size": int}
PARAMETERS = dict.fromkeys(("images", "batch", "seed", "repeats"), int)
DATA: dict[str, Any] = {"spec": str, "fingerprint": str, "test": str, "images": int, "skipped": list}


def check(sidecar: Sidecar) -> None:
    """Refuses a sidecar without the parts that claims and captions read, or with other things in their place."""
    for part, kind in PARTS.items():
        if not isinstance(sidecar.get(part), kind):
            raise BadInput(f"its sidecar has no {part!r}; expected the JSON that scripts/analyze.py wrote beside it")
    subjects = sidecar["subjects"]
    if not subjects or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in subjects):
        raise BadInput("its sidecar names no subject")
    if len(subjects) > 2:
        raise BadInput("more than two subjects")
    _typed(sidecar["parameters"], PARAMETERS, "parameters")
    _typed(sidecar["data"], DATA, "data")
    for subject in subjects:
        _check_subject(subject)


def _check_subject(subject: Mapping[str, Any]) -> None:
    _typed(subject, SUBJECT, subject["name"])
    for name, kind in LISTS.items():
        value = subject.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, kind) for v in value)):
            raise BadInput(f"its sidecar's {name} of {subject['name']} is {str(value)[:60]!r}")
    if subject.get("image_size") is not None and len(subject["image_size"]) != 2:
        raise BadInput(f"its sidecar's image_size of {subject['name']} is {subject['image_size']}")
    try:
        structure_of(subject)
    except Unanswerable:
        pass  # said by the claims that ask for it
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise BadInput(f"its sidecar's structure of {subject['name']} cannot be read: {error}") from error


def _typed(record: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    for name, kind in kinds.items():
        value = record.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadInput(f"its sidecar's {name} of {where} is {str(value)[:60]!r}")


def speaks_of(sidecar: Sidecar, table: pd.DataFrame) -> None:
    """Refuses a table of other models than its sidecar's."""
    if len(table) == 0:
        raise BadInput("the table has no rows")
    subjects = sidecar["subjects"]
    spoken = [("model", 0), ("model_x", 0), ("model_y", len(subjects) - 1)]
    spoken += [("against", len(subjects) - 1)] if "against" in table else []
    for column, which in spoken:
        if column in table and set(table[column]) != {subjects[which]["name"]}:
            found = ", ".join(sorted(set(table[column]))[:3])
            raise BadInput(f"its sidecar does not match: {column} is {found}, not {subjects[which]['name']}")
