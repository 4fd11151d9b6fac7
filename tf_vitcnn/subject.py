"""A subject: one network under study, whatever it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tf_vitcnn import taps

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.data.images import Preprocessing


@dataclass(frozen=True, eq=False)
class Subject:
    """A Keras model whose output is the dict of its taps in depth order, and how images reach it."""

    name: str
    model: keras.Model
    preprocessing: Preprocessing
    provenance: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def taps(self) -> list[str]:
        """Every sublayer's name, in depth order."""
        return list(self.model.output)

    @cached_property
    def depths(self) -> dict[str, int]:
        """Each tap's position among all declared taps."""
        return taps.depths(self.taps)

    @property
    def at_once(self) -> int | None:
        """How many images the model takes at a time, where its own code wants a number; None: any."""
        count: int | None = self.model.inputs[0].shape[0]
        return count

    def preprocess(self, images: Any) -> Any:
        """Network input (float32) of uint8 images [n, h, w, 3], resizing included."""
        return self.preprocessing(images)

    def expose(self, names: Sequence[str]) -> keras.Model:
        """The part of the model that computes the named taps, on the same weights."""
        import keras

        return keras.Model(self.model.inputs[0], {name: self.model.output[name] for name in names})
