"""What a checkpoint turned out to hold, whatever file it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import AnySpec


@dataclass(frozen=True, eq=False)
class Found:
    """Weights under their released names, and the sizes that their shapes tell."""

    source: str  # the file or folder, for messages
    family: str  # vit (deit and hybrids too), bit, mixer
    arrays: Mapping[str, Array]
    spec: AnySpec
    classes: int
    image_size: tuple[int, int] | None  # None: any
    spelled: Callable[[str], str] = field(default=str)  # a released name as this file would write it
    resample: str = "linear"  # of position embeddings: one of resample.METHODS
    left_out: tuple[str, ...] = ()  # what the file holds besides the network: mask tokens, text towers, decoders


def numbered(names: Collection[str], pattern: str) -> int:
    """How many blocks (units, stages) the names count, the pattern's group being the number; from 0 or from 1 alike."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    # no more than there are names: a name with a huge number is no reason to expect as many blocks
    return min(max(found, default=-1), len(names))


def shape_of(
    source: str, arrays: Mapping[str, Array], key: str, rank: int, spelled: Callable[[str], str]
) -> tuple[int, ...]:
    """The shape of an array that sizes are read from."""
    if key not in arrays:
        raise BadInput(f"{source}: {spelled(key)} is missing; expected the weights of a whole network")
    shape = arrays[key].shape
    if len(shape) != rank or min(shape, default=0) < 1:
        raise BadInput(f"{source}: {arrays[key].name} has shape {shape}; expected {rank} axes, none of them empty")
    return shape


OPTIMIZER = ("opt/", "opt_state/", "optimizer/", "state/")


def within(arrays: Mapping[str, Array], prefixes: Iterable[str], anchor: str) -> dict[str, Array]:
    """The arrays below the first prefix that has the anchor, without it; others (optimizer, text tower) stay behind."""
    for prefix in prefixes:
        if any(name.startswith(prefix + anchor) for name in arrays):
            outside = () if prefix else OPTIMIZER
            return {
                name[len(prefix) :]: array
                for name, array in arrays.items()
                if name.startswith(prefix) and not name.startswith(outside)
            }
    return dict(arrays)


def renamed(source: str, arrays: Mapping[str, Array], rename: Callable[[str], str]) -> dict[str, Array]:
    """The arrays under other names; two that meet in one name are an error."""
    result: dict[str, Array] = {}
    for name, array in arrays.items():
        new = rename(name)
        if new in result:
            raise BadInput(f"{source}: {result[new].name} and {array.name} are the same weight; expected it once")
        result[new] = array
    return result
