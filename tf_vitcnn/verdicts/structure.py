"""What a network is made of, as claims read it: blocks, units, stages, grids, from its record or its taps' names.

A subject's record may carry `structure`, which `opening` reads from the graph:

    {"units": [{"branch": TAP, "end": TAP, "block": 0, "stage": 1, "grid": [7, 7], "attends": true, "first": TAP}, ...],
     "attention": [TAP, ...], "extra": ["cls"], "grid": [7, 7]}

A unit is a residual addition in depth order: the tap of its branch, the stream after it (and after the activation that
follows, if one does), the block of a transformer or the unit of a ResNet that it belongs to, its stage (runs of equal
grid size, from 1), its grid, whether the branch attends, and the first tap of the unit. `attention` names the
probabilities of the attention layers, `extra` the tokens without a place, `grid` that of the tokens.
Where there is no record our own grammar of taps says the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tf_vitcnn import taps
from tf_vitcnn.errors import Unanswerable

# what older sidecars call the families
FAMILIES = {"deit": "vit", "hybrid": "vit", "bit": "resnet", "foreign": "other"}
# the stream after an addition, and what its branch may be called: the first that is there is the last of the branch
BRANCHES = {
    "resid/mid": ("ls1/out", "attn/out", "tokenmix/out"),
    "resid/post": ("ls2/out", "mlp/out", "chanmix/out"),
}
OF_UNIT = {"resid/post": ("ls1/out", "branch/out", "mlp/out")}


def family(subject: Mapping[str, Any]) -> str:
    """vit, resnet, mixer or other."""
    named = str(subject.get("family"))
    return FAMILIES.get(named, named)


@dataclass(frozen=True)
class Unit:
    """A residual addition."""

    branch: str
    end: str  # the stream after it
    block: int
    stage: int
    grid: tuple[int, int]
    attends: bool = False
    first: str = ""  # the first tap of the unit


@dataclass(frozen=True)
class Structure:
    """Residual additions in depth order, attention layers, and the tokens."""

    taps: tuple[str, ...]
    units: tuple[Unit, ...]
    attention: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def ends(self) -> list[str]:
        """The stream at the end of each block (of a transformer) or unit (of a ResNet)."""
        named = [tap for tap in self.taps if tap.endswith("/resid/post")]
        return [block[-1].end for block in self.blocks] or named

    @property
    def blocks(self) -> list[list[Unit]]:
        """The additions of each block."""
        return [list(units) for _, units in itertools.groupby(self.units, key=lambda unit: unit.block)]

    @property
    def sums(self) -> list[str]:
        """The stream after every addition."""
        return [unit.end for unit in self.units]

    @property
    def middle(self) -> int:
        """How many additions the first half of the blocks has."""
        return sum(len(block) for block in self.blocks[: len(self.blocks) // 2])

    @property
    def default(self) -> list[str]:
        """What the walk takes unless told otherwise."""
        return taps.default(self.taps)

    def unit_of(self, tap: str) -> Unit | None:
        """The unit that a tap lies in, by depth; None for the stem and what follows the last addition."""
        place = {name: i for i, name in enumerate(self.taps)}
        if tap not in place:
            return None
        begun = False
        for unit in self.units:
            begun = begun or place[tap] >= place.get(unit.first, 0)
            if begun and place[tap] <= place.get(unit.end, -1):
                return unit
        return None


def structure_of(subject: Mapping[str, Any]) -> Structure:
    """The structure of a subject, from its sidecar's record."""
    names = tuple(subject.get("taps") or ())
    record = subject.get("structure")
    found = _recorded(record, names) if isinstance(record, Mapping) else _named(names, subject)
    if not found.units and not found.attention:
        raise Unanswerable(f"the structure of {subject.get('name')} is not recorded: make its table again")
    return found


def _recorded(record: Mapping[str, Any], names: Sequence[str]) -> Structure:
    units = tuple(
        Unit(
            branch=str(unit["branch"]),
            end=str(unit["end"]),
            block=int(unit.get("block", i)),
            stage=int(unit.get("stage", 1)),
            grid=(int(grid[0]), int(grid[1])),
            attends=bool(unit.get("attends")),
            first=_first(names, str(unit["branch"]), str(unit.get("first") or unit["branch"])),
        )
        for i, unit in enumerate(record.get("units") or ())
        for grid in [unit.get("grid") or (0, 0)]  # not known
    )
    attention = _attention(str(name) for name in record.get("attention") or ())
    return Structure(tuple(names), units, attention, tuple(record.get("extra") or ()))


def _attention(names: Iterable[str]) -> tuple[str, ...]:
    """The blocks' attention; a head that pools by attention is none of them."""
    return tuple(name for name in names if not name.startswith("head/"))


def _first(names: Sequence[str], branch: str, recorded: str) -> str:
    """The first tap of a unit: of its block, where that has a name; a stem is no part of the first unit."""
    if taps.parse(branch) is None:
        return recorded
    return next((name for name in names if taps.block_of(name) == taps.block_of(branch)), recorded)


def _named(names: Sequence[str], subject: Mapping[str, Any]) -> Structure:
    """From the grammar of our own taps."""
    there = set(names)
    units, blocks = [], list(dict.fromkeys(taps.block_of(name) for name in names if taps.parse(name)))
    for index, block in enumerate(blocks):
        stage = taps.stage_of(block + "/")
        for stream, sites in (BRANCHES if stage is None else OF_UNIT).items():
            branch = next((f"{block}/{site}" for site in sites if f"{block}/{site}" in there), "")
            if branch and f"{block}/{stream}" in there:
                attends = stream == "resid/mid" and f"{block}/attn/out" in there
                grid, first = _grid(stage, subject), _first(names, branch, branch)
                units.append(Unit(branch, f"{block}/{stream}", index, stage or 1, grid, attends, first))
    attention = _attention(name for name in names if name.endswith("attn/probs") and taps.parse(name))
    extra = ("cls",) if family(subject) == "vit" and subject.get("pool") == "cls" else ()
    return Structure(tuple(names), tuple(units), attention, extra)


def _grid(stage: int | None, subject: Mapping[str, Any]) -> tuple[int, int]:
    size, patch = subject.get("image_size"), subject.get("patch_size")
    if not size or not (stage or patch):
        return 0, 0
    height, width = size
    if stage is not None:  # stem and pooling halve twice, each later stage once more
        return -(-height // 2 ** (stage + 1)), -(-width // 2 ** (stage + 1))
    return height // patch, width // patch
