"""ViT, hybrid and Mixer weights that jax2tf exported: every variable is called `Variable`, position is all there is.

Positions follow `tf.nest.flatten` of flax's parameters, which sorts the keys of each level as text: encoderblock_10
stands before encoderblock_2, bias before kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tf_vitcnn.checkpoints import mixer_npz, vit_npz
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.assign import mismatches
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.layouts import rows
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import HybridStem, MixerSpec, ResNetSpec, Spec, ViTSpec

DEEPEST = 64
STEMS = (None, HybridStem(()), *(HybridStem(units) for units in ((2, 2, 2, 2), (3, 4, 9), (3, 4, 6, 3))))


def read(source: str, arrays: Sequence[Array], wanted: Spec | None) -> Found:
    """The checkpoint under released names: of the wanted architecture if shapes allow it, else what they show."""
    for spec, classes in (*_variants(wanted), *_any()):
        names = positions(spec, classes)
        if len(names) != len(arrays):
            continue
        named = dict(zip(names, arrays, strict=True))
        try:
            found = (mixer_npz if isinstance(spec, MixerSpec) else vit_npz).read(source, named)
        except BadInput:
            continue  # an array of another rank stands where sizes are read from
        if not mismatches(found, found.spec):
            return found
    shapes = ", ".join(str(array.shape) for array in arrays[:4])
    raise BadInput(
        f"{source}: {len(arrays)} variables of shapes {shapes}, ... are no export of ViT, hybrid, Mixer, BiT or DeiT "
        f"that we know; expected one of these"
    )


def positions(spec: Spec, classes: int) -> list[str]:
    """The names of the variables, in the order of their positions."""
    names = [vit_npz.linen(row.key) for row in rows(spec, (224, 224), classes)]
    return sorted(names, key=lambda name: name.split("/"))


def _variants(wanted: Spec | None) -> Iterator[tuple[Spec, int]]:
    """The wanted architecture with and without head and `pre_logits`."""
    if wanted is None or isinstance(wanted, ResNetSpec):
        return
    for classes in (1, 0):
        yield wanted, classes
        if isinstance(wanted, ViTSpec):
            yield replace(wanted, pre_logits=wanted.width), classes


def _any() -> Iterator[tuple[Spec, int]]:
    """Every set of names that could occur; sizes do not change names."""
    for classes in (1, 0):
        for depth in range(1, DEEPEST + 1):
            yield MixerSpec(1, 1, depth, 1, 1), classes
            for stem in STEMS:
                for pool in ("cls", "gap"):
                    for pre_logits in (0, 1):
                        yield ViTSpec(1, 1, depth, 1, 1, pool=pool, pre_logits=pre_logits, stem=stem), classes
