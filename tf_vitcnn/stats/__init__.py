"""Pure mathematics on tensors: no files, no flags, no devices."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`stats.MinibatchCKA`, loaded on first use because it is a Keras metric."""
    if name == "MinibatchCKA":
        from tf_vitcnn.stats.minibatch_cka import MinibatchCKA

        return MinibatchCKA
    raise AttributeError(f"module 'tf_vitcnn.stats' has no attribute {name!r}")
