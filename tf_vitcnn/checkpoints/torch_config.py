"""What the two readers of safetensors ask of the arrays before they know the network."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import numbered, shape_of
from tf_vitcnn.errors import BadInput

Size = tuple[int, int]


def depth(arrays: Mapping[str, Array], block: str) -> int:
    """How many blocks are counted under a name such as `blocks.{i}`."""
    return 1 + numbered(arrays, block.replace(".", r"\.").replace("{i}", r"(\d+)") + r"\.")


def shape(source: str, arrays: Mapping[str, Array], key: str, rank: int) -> tuple[int, ...]:
    """The shape of an array that sizes are read from."""
    return shape_of(source, arrays, key, rank, str)


def placed(source: str, length: int, extra: int, classes: int, grid: Size | None) -> tuple[str, Size]:
    """Which tokens have a position (`positions` of ViTSpec), and the grid, from how many positions there are.

    `extra` tokens in all, `classes` of them no registers.
    """
    candidates = {"all": length - extra, "cls": length - classes, "grid": length}
    if grid and (found := [kind for kind, tokens in candidates.items() if tokens == grid[0] * grid[1]]):
        return found[0], grid
    for kind, tokens in candidates.items():
        if tokens > 0 and isqrt(tokens) ** 2 == tokens:
            return kind, (isqrt(tokens),) * 2
    raise BadInput(f"{source}: {length} positions for {extra} tokens and a grid; expected a square one")


def pair(value: Any, default: int) -> Size:
    """Height and width of a number, a pair or nothing."""
    value = default if value is None else value
    if isinstance(value, int):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    raise BadInput(f"config.json: {value!r} is no image size; expected a number or two")


def number(config: Mapping[str, Any], key: str, default: float | None = None, source: str = "config.json") -> Any:
    """A number of the configuration."""
    value = config.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise BadInput(f"{source}: {key} is {value!r}; expected a number")
    return value
