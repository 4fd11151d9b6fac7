"""Every released checkpoint: architecture, source, classes, what it was trained on, how images reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tf_vitcnn.models.specs import Spec, ViTSpec

if TYPE_CHECKING:
    from tf_vitcnn.data.images import Preprocessing

Size = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A released checkpoint."""

    model: str
    variant: str
    source: str
    classes: int
    image_size: int

    def preprocessing(self, size: Size) -> Preprocessing:
        """How images reach it."""
        from tf_vitcnn.models.specs import SPECS

        return preprocessing(SPECS[self.model], size)

    def about(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {}


ENTRIES: tuple[Entry, ...] = ()


def find(architecture: str, variant: str) -> Entry | None:
    """The entry of that variant, the default for an empty one; None where the variant is a path or handle."""
    return None


def preprocessing(spec: Spec, size: Size) -> Preprocessing:
    """What the architecture's official pipeline does: [-1, 1] for ViT, BiT and Mixer, ImageNet statistics for DeiT."""
    from tf_vitcnn.data.images import Preprocessing

    if isinstance(spec, ViTSpec) and spec.gelu == "exact":
        return Preprocessing(size, resize="bicubic", crop=0.875, values="imagenet")
    return Preprocessing(size)
