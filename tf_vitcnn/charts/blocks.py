"""Where blocks begin along an axis of layers, whatever they are called, and what an axis calls them.

Our own names say it. In others a block is a numbered part of the name (`encoder/layer_3/...`, `block2b_...`,
`conv2_block1_...`): the finest one that still holds several layers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tf_vitcnn import taps

MANY = 60  # more groups of layers than this get no boundaries on an axis
SEVERAL = 3  # layers in a row of one name make a block
MOST = 0.9  # of the layers that are in blocks at some level have to be in the finer ones of another
LONGEST = 14  # characters of a label
_NUMBER = re.compile(r"(?<!\d)(?![123]d(?:_|$))\d+[a-z]?(?=[_/.:#]|$)")  # `2b` of block2b, not that of conv2d


def blocks(names: Sequence[str]) -> list[str]:
    """The block of each layer of a network, in order; neighbours of one block share it."""
    declared = [taps.block_of(name) if taps.parse(name) else "" for name in names]
    if 2 * sum(map(bool, declared)) > len(names):
        return _filled(declared)
    deepest = max((len(_NUMBER.findall(name)) for name in names), default=0)
    levels = [[_up_to(name, level) for name in names] for level in range(1, deepest + 1)]
    enough = max([len(names) / 2, *(MOST * _covered(found) for found in levels)])
    levels = [_joined(found) for found in levels if _covered(found) >= enough]
    levels = [found for found in levels if len(list(itertools.groupby(found))) <= MANY]
    return levels[-1] if levels else [taps.block_of(name) for name in names]


def label(block: str) -> str:
    """`3` of block03, `s1` of stage1/unit00, `.2` of stage1/unit02; of others the last part, cut in the middle."""
    if re.fullmatch(r"block\d\d", block):
        return str(int(block[5:]))
    if unit := re.fullmatch(r"stage(\d+)/unit(\d+)", block):
        return f".{int(unit[2])}" if int(unit[2]) else f"s{unit[1]}"
    last = block.rpartition("/")[2]
    return last if len(last) <= LONGEST else f"{last[:3]}…{last[4 - LONGEST :]}"


def _filled(declared: Sequence[str]) -> list[str]:
    """A call that has no name in a block belongs to the next that has one; after the last, to that."""
    found: list[str] = []
    for block in reversed(declared):
        found.append(block or (found[-1] if found else next(filter(None, reversed(declared)))))
    return found[::-1]


def _up_to(name: str, level: int) -> str:
    """A name as far as its number `level`, or its last one; the first part of one without numbers."""
    ends = [match.end() for match in _NUMBER.finditer(name)]
    return name[: ends[min(level, len(ends)) - 1]] if ends else name.split("/")[0]


def _covered(found: Sequence[str]) -> int:
    """How many layers are in blocks."""
    counts = (len(list(run)) for _, run in itertools.groupby(found))
    return sum(count for count in counts if count >= SEVERAL)


def _joined(found: Sequence[str]) -> list[str]:
    """Layers that are in no block are one together; alone between two blocks, a layer ends the first."""
    runs = [(block, len(list(run))) for block, run in itertools.groupby(found)]
    joined: list[str] = []
    for alone, some in itertools.groupby(runs, lambda run: run[1] == 1):
        part = [block for block, count in some for _ in range(count)]
        if alone:
            part = (joined[-1:] if len(part) == 1 and joined else part[:1]) * len(part)
        joined += part
    return joined
