"""How images reach a network of timm or transformers, from its own files; and in words where that comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_vitcnn.checkpoints.torch_config import number, pair
from tf_vitcnn.data.images import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Resize, values_of
from tf_vitcnn.errors import BadInput

Config = Mapping[str, Any]
Size = tuple[int, int]
HALF = ((0.5,) * 3, (0.5,) * 3)
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
METHODS: dict[Any, Resize] = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}


class Seen(NamedTuple):
    """A preprocessing and where it was found."""

    preprocessing: Preprocessing
    origin: str


def of_timm(config: Config, size: Size | None) -> Seen:
    """`pretrained_cfg`: the shorter side scaled to the size over the crop, the centre taken (or all of it squashed)."""
    given = config.get("pretrained_cfg")
    origin = "pretrained_cfg of config.json" if isinstance(given, dict) else "default of timm: no pretrained_cfg"
    given = given if isinstance(given, dict) else {}
    size = size or pair(list(given.get("input_size") or (3, 224, 224))[1:], 224)
    share = float(number(given, "crop_pct", 0.875))
    if not 0 < share <= 1:
        raise BadInput(f"config.json: crop_pct is {share}; expected a share in (0, 1]")
    method, told = _method(given.get("interpolation", "bicubic"))
    values = values_of(_three(given, "mean", IMAGENET_MEAN), _three(given, "std", IMAGENET_STD))
    # timm rounds the scaled side down
    crop = None if given.get("crop_mode") == "squash" else size[0] / math.floor(size[0] / share)
    return Seen(Preprocessing(size, method, antialias=True, crop=crop, values=values), origin + told)


class Usual(NamedTuple):
    """What transformers' image processor does where no preprocessor_config.json says otherwise."""

    size: int
    resize: Resize
    crop: float | None
    statistics: tuple[tuple[float, ...], tuple[float, ...]]


USUAL = {
    "vit_mae": Usual(224, "bilinear", None, IMAGENET),
    "deit": Usual(224, "bicubic", 0.875, IMAGENET),
    "dinov2": Usual(224, "bicubic", 0.875, IMAGENET),
    "dinov2_with_registers": Usual(224, "bicubic", 0.875, IMAGENET),
    "dinov3_vit": Usual(224, "bilinear", None, IMAGENET),
    "dinov3_convnext": Usual(224, "bilinear", None, IMAGENET),
    "clip": Usual(224, "bicubic", 1.0, CLIP),
    "clip_vision_model": Usual(224, "bicubic", 1.0, CLIP),
    "siglip": Usual(0, "bicubic", None, HALF),
    "siglip_vision_model": Usual(0, "bicubic", None, HALF),
    "resnet": Usual(224, "bicubic", 0.875, IMAGENET),
    "convnext": Usual(224, "bicubic", 0.875, IMAGENET),
}
OTHERS = Usual(0, "bilinear", None, HALF)


def of_transformers(config: Config, processor: Config | None, own: Size, size: Size | None) -> Seen:
    """`preprocessor_config.json`, else what the model type's image processor does; `own` is the network's size."""
    kind = str(config.get("model_type"))
    if processor is None:
        usual = USUAL.get(kind, OTHERS)
        size = size or ((usual.size,) * 2 if usual.size else own)
        seen = Preprocessing(size, usual.resize, antialias=True, crop=usual.crop, values=values_of(*usual.statistics))
        return Seen(seen, f"default of transformers for {kind}: no preprocessor_config.json")
    method, told = _method(processor.get("resample", 2))
    scaled, crop = processor.get("size"), None
    taken = _size(processor.get("crop_size")) if processor.get("do_center_crop") else None
    if not processor.get("do_resize", True):
        told += "; images of another size are scaled all the same"
    elif (isinstance(scaled, dict) and "shortest_edge" in scaled) or (isinstance(scaled, int) and taken):
        edge = scaled["shortest_edge"] if isinstance(scaled, dict) else scaled
        side = taken or (edge, edge)
        # a crop larger than the scaled image would be padded: the whole image is taken instead
        crop, scaled = min(1.0, side[0] / int(edge)), side
    size = size or taken or _size(scaled) or own
    seen = Preprocessing(size, method, antialias=True, crop=crop, values=_values(processor))
    return Seen(seen, "preprocessor_config.json" + told)


def _values(processor: Config) -> str:
    """The range of an image processor's output."""
    rescaled = processor.get("do_rescale", True)
    factor = float(number(processor, "rescale_factor", 1 / 255))
    if rescaled and abs(factor * 255 - 1) > 1e-3:
        raise BadInput(f"preprocessor_config.json: rescale_factor is {factor}; expected 1/255")
    if not processor.get("do_normalize", True):
        return "0..1" if rescaled else "0..255"
    mean, std = (_three(processor, f"image_{name}", (0.5,) * 3) for name in ("mean", "std"))
    if not rescaled:
        mean, std = (tuple(x / 255 for x in side) for side in (mean, std))
    return values_of(mean, std)


def _size(given: Any) -> Size | None:
    """Height and width of transformers' spellings of a size."""
    if isinstance(given, dict):
        sides = [given.get("height"), given.get("width")]
        return pair(sides, 224) if all(sides) else None
    return None if given is None else pair(given, 224)


def _method(given: Any) -> tuple[Resize, str]:
    """How to resize, and what to say where the file asks for another way."""
    if given in METHODS:
        return METHODS[given], ""
    return "bicubic", f"; resized bicubically instead of by {given!r}"


def _three(config: Config, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Three numbers of the configuration."""
    given = config.get(key) or default
    if not isinstance(given, (list, tuple)) or len(given) != 3 or not all(isinstance(x, (int, float)) for x in given):
        raise BadInput(f"{key} is {given!r}; expected three numbers")
    return tuple(float(x) for x in given)
