"""ViT, hybrid and Mixer weights that jax2tf exported: every variable is called `Variable`, position is all there is.

Positions follow `tf.nest.flatten` of flax's parameters, which sorts the keys of each level as text: encoderblock_10
stands before encoderblock_2, bias before kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from tf_vitcnn.checkpoints import mixer_npz, vit_npz
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.assign import mismatches
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.layouts import rows
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import HybridStem, MixerSpec, Spec, ViTSpec

DEEPEST = 64


def read(source: str, arrays: Sequence[Array], wanted: Spec | None) -> Found:
    """The checkpoint under released names: of the wanted architecture if shapes allow it, else what they show."""
    for spec, classes in (*_variants(wanted), *_any(arrays)):
        names = positions(spec, classes)
        if len(names) != len(arrays):
            continue
        named = dict(zip(names, arrays, strict=True))
        try:
            found = (mixer_npz if isinstance(spec, MixerSpec) else vit_npz).read(source, named)
        except BadInput:
            continue  # an array of another rank stands where sizes are read from
        if not mismatches(found, found.spec) and _plausible(found.spec):
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


def _plausible(spec: Spec) -> bool:
    """A `pre_logits` layer keeps the width: a matrix that does not is a head."""
    return not isinstance(spec, ViTSpec) or spec.pre_logits in (0, spec.width)


# (has a head, has `pre_logits`); one square matrix alone is rather `pre_logits` than as many classes as channels
PARTS = ((1, 1), (0, 1), (1, 0), (0, 0))


def _variants(wanted: Spec | None) -> Iterator[tuple[Spec, int]]:
    """The wanted architecture with and without head and `pre_logits`."""
    if isinstance(wanted, ViTSpec):
        for classes, pre_logits in PARTS:
            yield replace(wanted, pre_logits=wanted.width * pre_logits), classes
    elif isinstance(wanted, MixerSpec):
        yield from ((wanted, classes) for classes in (1, 0))


def _any(arrays: Sequence[Array]) -> Iterator[tuple[Spec, int]]:
    """Every set of names that so many arrays could bear; sizes do not change names, apart from a stem's units."""
    stems = (None, *_stems(arrays))
    for depth in range(1, DEEPEST + 1):
        if 12 * depth > len(arrays):
            return
        yield from ((MixerSpec(1, 1, depth, 1, 1), classes) for classes in (1, 0))
        if 16 * depth > len(arrays):
            continue
        for stem, pool, (classes, pre_logits) in product(stems, ("cls", "gap"), PARTS):
            yield ViTSpec(1, 1, depth, 1, 1, pool=pool, pre_logits=pre_logits, stem=stem), classes


def _stems(arrays: Sequence[Array]) -> Iterator[HybridStem]:
    """The ResNet of a hybrid: one 3 x 3 kernel (3, 3, f, f) per unit, f doubles from stage to stage."""
    if any(array.shape[:3] == (7, 7, 3) for array in arrays):
        inner = Counter(array.shape[-1] for array in arrays if len(array.shape) == 4 and array.shape[:2] == (3, 3))
        yield HybridStem(tuple(inner[f] for f in sorted(inner)))
