"""What the user says about a network: how images reach it, and its family. It overrides what was read or assumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tf_vitcnn.errors import BadInput, unknown

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

FAMILIES = ("vit", "resnet", "mixer", "other")
PARTS = ("values", "resize", "crop")


@dataclass(frozen=True)
class Asked:
    """None: as it was read."""

    values: str | None = None  # -1..1, 0..1, 0..255, imagenet, caffe, or MEAN,MEAN,MEAN/STD,STD,STD
    resize: str | None = None  # bilinear or bicubic
    crop: str | float | None = None  # the share of the image that the central part is, or "none"
    family: str | None = None

    def of(self, subject: Subject) -> Subject:
        """The subject as the user says it is; where each part came from stands in its record."""
        if self.family is not None and self.family not in FAMILIES:
            raise unknown("family", self.family, FAMILIES)
        given: dict[str, Any] = {part: getattr(self, part) for part in PARTS if getattr(self, part) is not None}
        if "crop" in given:
            given["crop"] = _share(given["crop"])
        changed = replace(subject.preprocessing, **given) if given else subject.preprocessing
        record = dict(subject.provenance)
        source = record.get("preprocessing_from") or dict.fromkeys(PARTS, "the catalog")
        record["preprocessing_from"] = {**source, **dict.fromkeys(given, "asked for")}
        record["preprocessing"] = changed.as_dict()
        if self.family is not None:
            record["family"] = self.family
        record["notes"] = [*record.get("notes", ()), *_told(subject.name, record)]
        return replace(subject, preprocessing=changed, provenance=record)


def _share(crop: str | float) -> float | None:
    if crop == "none":
        return None
    try:
        return float(crop)
    except ValueError:
        raise BadInput(f"crop {crop!r}: expected a share of the image in (0, 1], or none") from None


def _told(name: str, record: dict[str, Any]) -> list[str]:
    """What was assumed, in a line; nothing where nothing was."""
    source, taken = record["preprocessing_from"], record["preprocessing"]
    assumed = [f"{part} {taken[part] or 'none'}" for part in PARTS if source.get(part) == "default"]
    if not assumed:
        return []
    flags = ", ".join(f"--{part}" for part in PARTS if source.get(part) == "default")
    return [f"{name}: nothing says how images reach it; taken by default: {', '.join(assumed)} ({flags} say otherwise)"]
