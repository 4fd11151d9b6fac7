"""Networks of timm and transformers from their safetensors.

timm:NAME, hf:OWNER/NAME[@REVISION]      fetched from the hub once, then cached
timm@DIR, hf@DIR                         a folder with config.json and model.safetensors
FILE.safetensors                         with config.json beside it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tf_vitcnn.checkpoints import hub, ours, timm_vit, torch_conv, transformers_vit, twin
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.assign import fill, mismatches
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.releases import find, releases
from tf_vitcnn.checkpoints.safetensors_file import open_folder, open_safetensors, read_json
from tf_vitcnn.checkpoints.torch_images import Seen, of_timm, of_transformers
from tf_vitcnn.devices.start import require_tensorflow
from tf_vitcnn.errors import BadInput, unknown

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

Size = tuple[int, int]
DIALECTS = ("timm", "hf")
SUFFIX = ".safetensors"


class Opened(NamedTuple):
    """A checkpoint with the configuration that lay beside it."""

    dialect: str
    path: Path
    config: Mapping[str, Any]
    found: Found


def is_released(spec: str) -> bool:
    """Whether a spec names a checkpoint of these."""
    return spec.startswith(("timm:", "hf:", "timm@", "hf@")) or spec.endswith(SUFFIX)


def local(spec: str) -> tuple[str, Path]:
    """Which dialect a spec speaks (empty: its configuration tells), and the file or folder on this machine."""
    dialect, place = _parted(spec)
    if spec.startswith(("timm:", "hf:")):
        return dialect, hub.folder(spec, _repository(spec, place))
    path = Path(place).expanduser()
    if not path.exists():
        raise BadInput(f"{spec}: no such file or folder; expected a folder with config.json and model.safetensors")
    return dialect, path


def refuse_unreleased(spec: str) -> None:
    """Refuses a name that is neither in the catalog nor on the hub, or a folder that is not there."""
    if not spec.startswith(("timm:", "hf:")):
        local(spec)
        return
    place = _parted(spec)[1]
    if find(spec):
        return
    if "/" not in place:
        known = [release.spec for release in releases() if release.spec.startswith(spec[: spec.index(":") + 1])]
        raise unknown("checkpoint", spec, [*known, "timm:OWNER/NAME", "hf:OWNER/NAME"])
    name, _, revision = _repository(spec, place).partition("@")
    hub.fetched(spec, name, hub.CONFIG, revision)  # a few hundred bytes


def _parted(spec: str) -> tuple[str, str]:
    """The dialect of a spec, and what comes after it."""
    dialect, place = next(
        ((d, spec[len(d) + 1 :]) for d in DIALECTS if spec.startswith((f"{d}:", f"{d}@"))), ("", spec)
    )
    if not place:
        raise BadInput(f"{spec}: nothing after {spec[-1]!r}; expected a name on the hub, or a folder")
    return dialect, place


def _repository(spec: str, place: str) -> str:
    """What the hub calls it."""
    known = find(spec) if spec.startswith("timm:") else None
    place = known.spec.removeprefix("timm:") if known else place
    return place if "/" in place or spec.startswith("hf:") else f"timm/{place}"


def opened(spec: str) -> Opened:
    """The checkpoint of a spec, its arrays unread, compared with the network that its configuration describes."""
    dialect, path = local(spec)
    beside = path if path.is_dir() else path.parent
    config = read_json(beside / hub.CONFIG)
    dialect = dialect or ("timm" if "architecture" in config else "hf")
    arrays = open_folder(path) if path.is_dir() else open_safetensors(path)
    if dialect == "timm":
        found = _of_timm(spec, str(path), arrays, config)
    elif config.get("model_type") in torch_conv.MODEL_TYPES:
        found = torch_conv.of_transformers(str(path), arrays, config)
    else:
        found = transformers_vit.read(str(path), arrays, config)
    if wrong := mismatches(found, found.spec):
        what = config.get("architecture") or config.get("model_type")
        raise BadInput(f"{path}: does not fit {what} as its config.json has it: {wrong}")
    return Opened(dialect, path, config, found)


def _of_timm(spec: str, source: str, arrays: Mapping[str, Array], config: Mapping[str, Any]) -> Found:
    name = timm_vit.architecture(source, config)
    if torch_conv.reads(name):
        return torch_conv.of_timm(source, arrays, config)
    if timm_vit.reads(name):
        return timm_vit.read(source, arrays, config)
    raise BadInput(
        f"{spec}: {name} is none of timm's networks that we build; expected a ViT (vit_*, deit*, ...), "
        "a ResNet (resnet*, resnext*, wide_resnet*) or a ConvNeXt (convnext*)"
    )


def load_released(spec: str, image_size: Size | None, name: str | None, again: int | None = None) -> Subject:
    """The network of a spec, with its weights (or what the seed `again` draws), its preprocessing and their origin."""
    from tf_vitcnn.models import build

    require_tensorflow()
    dialect, path, config, found = opened(spec)
    seen = seen_by(dialect, path, config, found, image_size)
    model = build(found.spec, image_size=seen.preprocessing.size, classes=found.classes, seed=again)
    if again is None:
        fill(model, found, found.spec, seen.preprocessing.size)
    known = find(spec)
    about = {
        **(known.about() if known else {}),
        "family": found.family,
        "source": str(found.source),
        "random": False,
        "reader": {"timm": "timm", "hf": "transformers"}[dialect],
        "architecture": config.get("architecture") or config.get("model_type"),
        "left_out": list(found.left_out),
        "preprocessing_from": dict.fromkeys(("values", "resize", "crop"), seen.origin),
    }
    if again is not None:
        about = twin.about(again, about)
    return ours.subject(name or default_name(spec, path), spec, model, found.spec, seen.preprocessing, about)


def seen_by(dialect: str, path: Path, config: Mapping[str, Any], found: Found, size: Size | None) -> Seen:
    """How images reach the network: as its own files say."""
    if dialect == "timm":
        return of_timm(config, size)
    beside = (path if path.is_dir() else path.parent) / hub.PROCESSOR
    processor = read_json(beside) if beside.is_file() else None
    return of_transformers(config, processor, found.image_size or (224, 224), size)


def default_name(spec: str, path: Path) -> str:
    """The name on the hub, the folder's or the file's."""
    if spec.startswith(("timm:", "hf:")):
        return spec.partition(":")[2].partition("@")[0].rpartition("/")[2]
    return path.name.removesuffix(SUFFIX) if path.is_file() else path.resolve().name
