"""Random twins: the graph of any network, its layers started again from their own initializers.

`SPEC@random` names the twin of a network that SPEC loads. What training found is gone from its record too: a twin has
seen no images.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_vitcnn.errors import BadInput, first_line

if TYPE_CHECKING:
    import keras

# of a network's record: what its training made
TRAINED = (
    "training_images",
    "trained_on",
    "finetuned_from",
    "final_accuracy",
    "recipe",
    "fraction",
    "data_fingerprint",
)


def about(seed: int, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the record of a twin says instead of `known`, its original's."""
    kept = {key: value for key, value in (known or {}).items() if key not in TRAINED}
    return {**kept, "random": True, "seed": seed}


def restart(model: keras.Model, spec: str, seed: int) -> None:
    """Gives every layer of the model, in place, the weights that its initializers draw with this seed.

    A weight is a function of the seed and of its layer's place; layers that do not tell their initializers (composite
    ones of other libraries) draw from Keras' global seed, in order.
    """
    import keras

    state = np.random.get_state()  # noqa: NPY002  (Keras seeds it)
    keras.utils.set_random_seed(seed)
    try:
        drawn, constant = 0, 0
        for place, layer in enumerate(_leaves(model)):
            for old, new in zip(layer.weights, _fresh(layer, spec, f"{seed}/{place}/{layer.name}"), strict=True):
                old.assign(new)
                if len(old.shape) > 1:
                    drawn += new.size
                    constant += new.size if np.ptp(new) == 0 else 0
    finally:
        np.random.set_state(state)  # noqa: NPY002
    if 2 * constant > drawn:
        raise BadInput(
            f"{spec}: {constant} of {drawn} numbers in its kernels start from a constant, so it has no random twin; "
            "expected layers whose initializers draw numbers"
        )


def _leaves(model: keras.Model) -> Iterator[Any]:
    """The layers that own weights; a model among them is opened."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif layer.weights:
            yield layer


def _fresh(layer: Any, spec: str, place: str) -> list[np.ndarray]:
    """A layer's weights as another layer of its configuration starts with."""
    try:
        config = _seeded({**layer.get_config(), "trainable": True}, place)
        twin = type(layer).from_config(config)
        twin.build_from_config(layer.get_build_config() or {})
        found = [np.asarray(weight) for weight in twin.weights]
    except Exception as error:  # a layer's own code: no common ancestor
        raise BadInput(f"{spec}: layer {layer.name!r} cannot be made again ({first_line(error)})") from error
    # frozen weights stand elsewhere in Keras' order, so the original's order is restored by name
    named = {weight.path.partition("/")[2]: value for weight, value in zip(twin.weights, found, strict=True)}
    own = [named.get(weight.path.partition("/")[2]) for weight in layer.weights]
    matched = [value for value in own if value is not None]
    if len(matched) != len(own):
        matched = found
    if [value.shape for value in matched] != [tuple(weight.shape) for weight in layer.weights]:
        raise BadInput(f"{spec}: layer {layer.name!r}, made again, has other weights; expected those of its file")
    return matched


def _seeded(config: Any, place: str) -> Any:
    """The configuration with every seed in it replaced by one that follows from its place."""
    if isinstance(config, dict):
        return {
            key: _number(f"{place}/{key}")
            if key == "seed" and (value is None or isinstance(value, int))
            else _seeded(value, f"{place}/{key}")
            for key, value in config.items()
        }
    return [_seeded(value, f"{place}/{i}") for i, value in enumerate(config)] if isinstance(config, list) else config


def _number(place: str) -> int:
    return zlib.crc32(place.encode()) & 0x7FFFFFFF
