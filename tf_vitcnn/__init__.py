"""How does this network see? Every analysis of Raghu et al. (2021), for any two Keras models.

Nothing heavy is imported here: TensorFlow loads with the first call that computes.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# TensorFlow's start-up messages are for its developers, not for the terminal of our user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    from tf_vitcnn import stats, surgery
    from tf_vitcnn.analyses import chart, interval, read_table, show
    from tf_vitcnn.checkpoints.load import load
    from tf_vitcnn.engine.door import run
    from tf_vitcnn.subject import Subject
    from tf_vitcnn.tables.write import write_table

__all__ = ["Subject", "chart", "interval", "load", "read_table", "run", "show", "stats", "surgery", "write_table"]
__version__ = "0.1.0"

_HOME = {
    "Subject": "subject",
    "chart": "analyses",
    "interval": "analyses",
    "load": "checkpoints.load",
    "read_table": "analyses",
    "run": "engine.door",
    "show": "analyses",
    "write_table": "tables.write",
}


def __getattr__(name: str) -> Any:
    """Loads the module behind a public name on first use."""
    if name in ("load", "run", "stats", "surgery"):
        from tf_vitcnn.devices.start import start_tensorflow

        start_tensorflow()
    if name in ("stats", "surgery"):
        return importlib.import_module(f"tf_vitcnn.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"tf_vitcnn.{_HOME[name]}"), name)
    raise AttributeError(f"module 'tf_vitcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
