"""What a network is made of, read from its graph: family, blocks, stages, grid, extra tokens, patch size, pooling.

It goes into a subject's record, where claims read it (verdicts/structure.py says what each key means).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tf_vitcnn import taps
from tf_vitcnn.opening.graph import Tensor, flat, node_of
from tf_vitcnn.opening.links import kind
from tf_vitcnn.opening.roles import additions, layout

FEW = 4  # a network is a vision transformer if one in so many of its residual additions is after attention
TAKES_ONE = ("GetItem", "Take")


def structure(model: keras.Model) -> dict[str, Any]:
    """The structure of a model whose output is the dict of its taps."""
    names = list(model.output)
    units = _units(model, names)
    attention = [name for name in names if name.endswith("attn/probs")]
    grid = next((unit["grid"] for unit in units if unit["grid"]), None)
    extra: list[str] = next((unit["extra"] for unit in units if unit["extra"]), [])
    for unit in units:
        unit.pop("extra", None)
    family = _family(model, names, units, attention)
    encoder, kept = _encoder(names), {taps.block_of(unit["end"]) for unit in units}
    return {
        "family": family,
        "pool": _pool(model, family, attention, extra),
        "patch_size": _patch(model, family, grid),
        "depth": len(encoder) or len({unit["block"] for unit in units}),
        "no_skip": [i for i, block in enumerate(encoder) if block not in kept],
        "units": units,
        "attention": attention,
        "extra": extra,
        "grid": grid,
    }


def _units(model: keras.Model, names: Sequence[str]) -> list[dict[str, Any]]:
    """Each residual addition, in depth order."""
    place = {name: i for i, name in enumerate(names)}
    probs = [place[name] for name in names if name.endswith("attn/probs")]
    units: list[dict[str, Any]] = []
    last, rows = -1, None
    for addition in additions(model)[0]:
        at = layout(model, addition.sum)
        grid = [at.rows, at.cols] if at else None
        same = bool(units) and grid == rows
        end = _end(model, addition.sum, names)
        attends = any(last < p < place[addition.sum] for p in probs)
        unit = {
            "branch": addition.branch,
            "end": end,
            "block": _block(units, addition.sum, attends),
            "stage": units[-1]["stage"] if same else (units[-1]["stage"] + 1 if units else 1),
            "grid": grid,
            "attends": attends,
            "first": names[min(last + 1, place[addition.branch])],
            "extra": list(at.extra) if at else [],
        }
        units.append(unit)
        last, rows = place[end], grid
    return units


def _block(units: Sequence[dict[str, Any]], total: str, attends: bool) -> int:
    """The block of an addition: as named, else that of the one before if that alone attends, else one of its own."""
    if not units:
        return 0
    before = units[-1]
    same = taps.block_of(total) == taps.block_of(before["end"]) if taps.parse(total) else before["attends"] > attends
    return int(before["block"]) + (0 if same else 1)


def _end(model: keras.Model, total: str, names: Sequence[str]) -> str:
    """The stream after an addition, and after an activation that alone follows it."""
    if total.endswith("resid/sum"):
        return total.removesuffix("sum") + "post"
    tensor = model.output[total]
    if taps.parse(total) is None and (after := _only_reader(tensor)) is not None:
        found = [name for name in names if any(model.output[name] is t for t in after.outputs)]
        if found and "activation" in kind(after).lower() + "activation" * kind(after).endswith(("ReLU", "Relu")):
            return found[0]
    return total


def _only_reader(tensor: Tensor) -> Any:
    readers = [n for n in node_of(tensor).operation._outbound_nodes if any(t is tensor for t in n.input_tensors)]
    return readers[0] if len(readers) == 1 else None


def _family(model: keras.Model, names: Sequence[str], units: Sequence[dict[str, Any]], attention: Sequence[str]) -> str:
    if any("/tokenmix/" in name for name in names):
        return "mixer"
    attending = sum(unit["attends"] for unit in units)
    if attention and FEW * max(attending, not units) >= len(units):
        return "vit"
    maps = [unit for unit in units if len(model.output[unit["end"]].shape) == 4]
    return "resnet" if units and 2 * len(maps) > len(units) else "other"


def _pool(model: keras.Model, family: str, attention: Sequence[str], extra: Sequence[str]) -> str | None:
    """cls, gap or map: a token, the mean, or what one query gathers."""
    if family == "vit" and attention and model.output[attention[-1]].shape[-2] == 1:
        return "map"
    pooled = model.output.get("head/pooled")
    if pooled is not None:
        return "cls" if kind(node_of(pooled)) in TAKES_ONE else "gap"
    if family == "vit":
        return "cls" if extra else "gap"
    return None if family == "other" else "gap"


def _patch(model: keras.Model, family: str, grid: Sequence[int] | None) -> int | None:
    if family not in ("vit", "mixer") or grid is None:
        return None
    embed = model.output.get("stem/embed")
    rows = embed.shape[1] if embed is not None and len(embed.shape) == 4 else grid[0]
    height = flat(model.inputs)[0].shape[1]
    return int(height) // int(rows) if height and rows else None


def _encoder(names: Sequence[str]) -> list[str]:
    """The blocks of a transformer or mixer by name, else the units of a ResNet; none where paths are the names."""
    there = dict.fromkeys(taps.block_of(name) for name in names if taps.parse(name) and "/resid/" in name)
    return [block for block in there if block.startswith("block")] or list(there)
