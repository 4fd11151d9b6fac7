"""Any saved Keras functional model as a subject; ours bring a card that says what they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_vitcnn import taps
from tf_vitcnn.checkpoints import keras_guard
from tf_vitcnn.checkpoints.assign import fingerprint
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


def load_file(spec: str, image_size: Size | None, name: str | None) -> Subject:
    """The model of a `.keras` file, with what `NAME.card.json` beside it says."""
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
    preprocessing = _preprocessing(path, card) if card.get("preprocessing") else None
    return foreign(name or path.stem, spec, model, image_size, preprocessing, about)


def _loaded(path: Path) -> keras.Model:
    """The saved model; nothing in the file is executed."""
    import keras

    import tf_vitcnn.models.layers
    import tf_vitcnn.surgery  # noqa: F401  (both register our layers)
    from tf_vitcnn.surgery.files import obstacle

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


def foreign(
    name: str,
    spec: str,
    model: keras.Model,
    image_size: Size | None,
    preprocessing: Preprocessing | None,
    about: dict[str, Any],
) -> Subject:
    """The subject of any functional model: what its graph tells, then what `about` knows better."""
    from tf_vitcnn import surgery
    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.subject import Subject

    model = surgery.open_attention(sized(spec, model, image_size))
    size = (int(model.inputs[0].shape[1]), int(model.inputs[0].shape[2]))
    preprocessing = preprocessing or Preprocessing(size, values=_values(model))
    if preprocessing.size != size:
        raise BadInput(f"{spec}: its card prepares images of {preprocessing.size}, its input is {size}; train it again")
    provenance = {
        "name": name,
        "spec": spec,
        "training_images": None,
        "trained_on": None,
        "finetuned_from": None,
        "final_accuracy": None,
        "random": False,
        **graph_facts(model),
        **about,
        "image_size": list(size),
        "parameters": model.count_params(),
        "weights_sha256": fingerprint(model, spec),
        "taps": list(model.output),
        "preprocessing": preprocessing.as_dict(),
    }
    return Subject(name, model, preprocessing, provenance)


def _values(model: keras.Model) -> Any:
    """The value range when nobody tells: a model that rescales inside takes pixels as they are."""
    import keras

    return "0..255" if any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers) else "-1..1"


def sized(spec: str, model: keras.Model, image_size: Size | None) -> keras.Model:
    """The model with a fixed image size; its own unless it takes any."""
    import keras

    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise BadInput(f"{spec}: takes {shapes or 'no fixed input'}; expected one input of images [b, h, w, 3]")
    own = shapes[0][1:3]
    wanted = image_size or tuple(side or 224 for side in own)
    if own == wanted:
        return model
    if any(side is not None and side != given for side, given in zip(own, wanted, strict=True)):
        raise BadInput(f"{spec}: takes images of {own[0]} x {own[1]}; leave the image size {wanted} out")
    images = keras.Input((*wanted, 3), name="images")
    try:
        # under older Keras a reloaded model has its only input in a list
        given = [images] if isinstance(model.input, list) else images
        return keras.models.clone_model(model, input_tensors=given, clone_function=lambda layer: layer)
    except Exception as error:  # whatever its layers raise for a size that they cannot take
        reason = " ".join(str(error).split())[:150]
        raise BadInput(f"{spec}: cannot take images of {wanted} ({reason}); give another --image-size") from error


def graph_facts(model: keras.Model) -> dict[str, Any]:
    """Family, pooling, patch size, blocks and lost skips, as far as layers tell; a foreign model's are unknown."""
    from tf_vitcnn import surgery

    names = list(model.output)
    if not all(taps.parse(tap) for tap in names):
        return {"family": "foreign", "pool": None, "patch_size": None, "depth": _additions(model), "no_skip": []}
    blocks = list(dict.fromkeys(taps.block_of(tap) for tap in names if tap.startswith(("block", "stage"))))
    encoder = [block for block in blocks if block.startswith("block")] or blocks
    lost = [i for i, block in enumerate(encoder) if not _skips(model, block)]
    kinds = {tap.split("/")[1] for tap in names if tap.startswith("block")}
    patch = None
    if "stem/embed" in names:
        patch = int(model.inputs[0].shape[1]) // int(model.output["stem/embed"].shape[1])
    tokens = surgery.layout(model, "stem/tokens") if "stem/tokens" in names else None
    return {
        "family": _family(model, names, kinds),
        "pool": "cls" if tokens and tokens.extra else "gap",
        "patch_size": patch,
        "depth": len(encoder),
        "no_skip": lost,
    }


def _family(model: keras.Model, names: list[str], kinds: set[str]) -> str:
    if "tokenmix" in kinds:
        return "mixer"
    if "attn" not in kinds:
        return "bit"
    if any(tap.startswith("stage") or tap == "stem/conv" for tap in names):
        return "hybrid"
    from tf_vitcnn.models.layers import Gelu

    return "vit" if isinstance(model.get_layer("block00.mlp.act"), Gelu) else "deit"  # exact GELU is DeiT's


def _skips(model: keras.Model, block: str) -> bool:
    """Whether every residual stream of the block is a sum."""
    import keras

    found = [tap for tap in model.output if tap.startswith(f"{block}/resid/")]
    layers = [model.get_layer(taps.layer_name(tap)) for tap in found]
    return any(isinstance(layer, keras.layers.Add) for layer in layers)


def _additions(model: keras.Model) -> int:
    """How many residual additions a foreign model has."""
    from tf_vitcnn import surgery

    return len(surgery.additions(model)[0])
