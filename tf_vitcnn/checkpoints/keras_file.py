"""Any saved Keras functional model as a subject; ours bring a card that says what they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_vitcnn.checkpoints import keras_guard, twin
from tf_vitcnn.checkpoints.foreign import foreign
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.subject import Subject

Size = tuple[int, int]
FROM_CARD = (
    *("family", "pool", "patch_size", "depth", "no_skip", "training_images", "trained_on", "finetuned_from"),
    *("final_accuracy", "fraction", "seed", "data_fingerprint", "classes", "class_names", "architecture"),
    *("validation_images", "domain"),
)


def load_file(spec: str, image_size: Size | None, name: str | None, again: int | None = None) -> Subject:
    """The model of a `.keras` file, with what `NAME.card.json` beside it says; its twin of the seed `again`."""
    path = Path(spec).expanduser()
    if not path.is_file():
        raise BadInput(f"{spec}: no such file; expected a saved Keras model")
    card = _card(path)
    model = _loaded(path)
    about = {key: card[key] for key in FROM_CARD if key in card}
    if card:
        settled = card.get("settled") or {}
        # paths say nothing of how it was trained
        about["recipe"] = {key: value for key, value in settled.items() if key not in ("data", "val", "from")} or None
        about["random"] = not (card.get("trained_on") or card.get("finetuned_from"))
    if again is not None:
        twin.restart(model, spec, again)
        about = twin.about(again, about)
    preprocessing = _preprocessing(path, card) if card.get("preprocessing") else None
    return foreign(name or path.stem, spec, model, image_size, preprocessing, about)


def _loaded(path: Path) -> keras.Model:
    """The saved model; nothing in the file is executed."""
    import keras

    import tf_vitcnn.models.layers
    import tf_vitcnn.opening  # noqa: F401  (both register our layers)
    from tf_vitcnn.checkpoints.keras_obstacle import obstacle

    try:
        keras_guard.inspect(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except BadInput:
        raise
    except Exception as error:  # zip, JSON, HDF5, unknown or unsafe layers: Keras has no exception of its own
        if reason := obstacle(path):
            raise BadInput(f"{path}: {reason}") from error
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path}: not a Keras model that can be loaded ({reason}); save it again with Keras 3"
        ) from error


def _card(path: Path) -> dict[str, Any]:
    """The card beside the file; empty without one."""
    beside = path.with_name(f"{path.stem}.card.json")
    if not beside.is_file():
        return {}
    try:
        card = json.loads(beside.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{beside}: not a card ({error}); remove it or train again") from error
    if not isinstance(card, dict):
        raise BadInput(f"{beside}: not a card; remove it or train again")
    return card


def _preprocessing(path: Path, card: dict[str, Any]) -> Preprocessing:
    from tf_vitcnn.data.images import Preprocessing

    try:
        fields = dict(card["preprocessing"])
        return Preprocessing(**{**fields, "size": tuple(fields["size"])})
    except (TypeError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: its card's preprocessing cannot be read ({error}); train again") from error
