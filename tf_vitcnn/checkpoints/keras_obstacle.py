"""Why a `.keras` file does not load, in one line: the layer that Keras does not know, or refuses to run.

Keras itself answers with the whole configuration of the outermost model.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

IMPORTED = ("keras", "keras_hub", "keras_cv", "keras_nlp")  # packages that Keras imports by itself
FUNCTIONS = (keras.activations, keras.initializers, keras.regularizers, keras.constraints)


def obstacle(path: str | Path) -> str | None:
    """The first thing in a `.keras` file that stops Keras from loading it; None if its configuration tells nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile):
        return None
    return next((line for line in map(_complaint, _objects(config)) if line), None)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialised object of a configuration, the inner ones first: they are what fails."""
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _objects(part)
    if isinstance(config, dict) and isinstance(config.get("class_name"), str):
        yield config


def _complaint(item: dict[str, Any]) -> str | None:
    kind, config = item["class_name"], item.get("config")
    name = item.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if kind == "Lambda" and str(item.get("module")).startswith("keras"):
        return (
            f"layer {name!r} is a Lambda, whose Python code would run from the file: refused; put the code in a "
            "registered keras.layers.Layer and save again"
        )
    if kind.startswith("__") or "module" not in item:
        return None
    if kind == "function":
        known = keras.saving.get_registered_object(str(config)) or any(hasattr(m, str(config)) for m in FUNCTIONS)
        return None if known else f"function {config!r} is unknown to Keras: {_register(str(config))}"
    if str(item["module"]).split(".")[0] in IMPORTED or keras.saving.get_registered_object(item.get("registered_name")):
        return None
    what = f"layer {name!r}" if name else "the model"
    return f"{what} is of class {kind!r}, unknown to Keras: {_register(kind)}"


def _register(name: str) -> str:
    return (
        f"decorate {name} with @keras.saving.register_keras_serializable() and import its module before tf_vitcnn.load"
    )
