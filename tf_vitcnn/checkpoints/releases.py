"""The released checkpoints of timm and transformers that we read: what the catalog says of them.

`releases.csv` is made by tests/golden/torch_releases.py: timm's rows from timm's registry, transformers' written down.
An architecture's first row is the one that its bare name stands for.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_vitcnn.data.images import Preprocessing

# as their papers count them (Russakovsky et al., 2015; Ridnik et al., 2021; Oquab et al., 2023)
IMAGES = {"imagenet2012": 1_281_167, "imagenet21k": 14_197_122, "lvd142m": 142_109_386}


@dataclass(frozen=True)
class Release:
    """A released checkpoint."""

    spec: str  # what `load` takes
    family: str
    parameters: int
    licence: str
    image_size: int
    classes: int  # 0: features only
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    crop: float | None
    trained_on: str  # the last data set
    finetuned_from: str | None  # the data set before

    @property
    def preprocessing(self) -> Preprocessing:
        """How images reach it; the checkpoint's own files say it again when they are read."""
        from tf_vitcnn.data.images import Preprocessing, values_of

        size = (self.image_size, self.image_size)
        return Preprocessing(size, self.resize, True, self.crop, values_of(self.mean, self.std))  # type: ignore[arg-type]

    def about(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {
            "trained_on": self.trained_on,
            "finetuned_from": self.finetuned_from,
            "training_images": IMAGES.get(self.finetuned_from or self.trained_on),
            "licence": self.licence or None,
        }


@cache
def releases() -> tuple[Release, ...]:
    """All of them, by family."""
    with Path(__file__).with_name("releases.csv").open(newline="", encoding="utf-8") as file:
        return tuple(_release(row) for row in csv.DictReader(file))


def _release(row: dict[str, str]) -> Release:
    return Release(
        spec=row["spec"],
        family=row["family"],
        parameters=int(row["parameters"]),
        licence=row["licence"],
        image_size=int(row["image_size"]),
        classes=int(row["classes"]),
        mean=tuple(map(float, row["mean"].split())),
        std=tuple(map(float, row["std"].split())),
        resize=row["resize"],
        crop=float(row["crop"]) if row["crop"] else None,
        trained_on=row["trained_on"],
        finetuned_from=row["finetuned_from"] or None,
    )


def find(spec: str) -> Release | None:
    """The release of a spec; of `timm:NAME` without a tag the architecture's default."""
    exact = (release for release in releases() if release.spec == spec)
    tagless = (release for release in releases() if release.spec.partition(".")[0] == spec)
    return next(exact, None) or next(tagless, None)
