"""A model whose residual additions lose their skip input (Fig. 8), on the same weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import keras

from tf_vitcnn import taps
from tf_vitcnn.errors import BadInput
from tf_vitcnn.surgery.graph import Node, calls, flat, require_graph
from tf_vitcnn.surgery.rewire import Change, Rewired, outputs_of, structure_of
from tf_vitcnn.surgery.roles import Residual, residuals

SITES = {"both": ("resid/mid", "resid/post"), "attn": ("resid/mid",), "mlp": ("resid/post",)}


def without_skips(
    model: keras.Model, blocks: int | Sequence[int], which: Literal["both", "attn", "mlp"] = "both"
) -> keras.Model:
    """The model with branches alone where the named blocks added their input; the rest untouched, weights shared.

    Args:
        model: ours, or any whose residual additions are recognised (`additions` says which).
        blocks: indices of transformer or mixer blocks; of a ResNet's units; of a foreign model's additions in
            depth order.
        which: in blocks with two additions, the one after attention (token mixing), after the MLP, or both.
    """
    require_graph(model)
    inputs, outputs = flat(structure_of(model, "input")), outputs_of(model)
    flattened = Rewired().run(inputs, inputs, outputs)
    new = dict(zip(map(id, outputs), flattened, strict=True))
    output = structure_of(model, "output")
    named = {name: new[id(t)] for name, t in output.items()} if isinstance(output, dict) else {}
    found, _, names = residuals(inputs, flattened, named)
    chosen = _chosen(model.name, found, names, [blocks] if isinstance(blocks, int) else list(blocks), which)
    changed = Rewired(_dropping(chosen, calls(inputs, flattened))).run(inputs, inputs, flattened)
    new = dict(zip(map(id, outputs), changed, strict=True))
    if isinstance(output, dict):
        packed = {name: new[id(t)] for name, t in output.items()}
    else:
        packed = keras.tree.map_structure(lambda t: new[id(t)], output)
    return keras.Model(structure_of(model, "input"), packed, name=model.name)


def _dropping(chosen: list[Residual], nodes: list[Node]) -> Change:
    """What puts an Identity of the branch, under its name, in the place of each addition."""
    branches = {id(residual.node): residual.branch for residual in chosen}
    called = Counter(id(node.operation) for node in nodes)

    def drop(rewired: Rewired, name: str, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(node) not in branches:
            return None
        place = next(i for i, t in enumerate(node.input_tensors) if t is branches[id(node)])
        # a shared addition may go on adding elsewhere, and names are unique
        own = node.operation.name if called[id(node.operation)] == 1 else f"{node.operation.name}.{len(rewired.filed)}"
        return keras.layers.Identity(name=own)(flat((args, kwargs))[place])

    return drop


def _chosen(model: str, found: list[Residual], names: dict[int, str], blocks: list[int], which: str) -> list[Residual]:
    """The additions to change; a block that has none to lose is an error."""
    if which not in SITES:
        raise BadInput(f"unknown kind of skip {which!r}; available: {', '.join(SITES)}")
    sums = [names[id(residual.node.outputs[0])] for residual in found]
    units = sorted({taps.block_of(name) for name in names.values() if taps.stage_of(name)})
    groups = _groups(sums, units, which)
    if not groups:
        raise BadInput(f"{model!r} has no residual addition that is recognised: no skips to take out")
    chosen = []
    for block in blocks:
        if block not in groups:
            raise BadInput(f"block {block} of {model!r} has no skip connection; blocks with one: {_ranges(groups)}")
        chosen += [found[i] for i in groups[block]]
    return chosen


def _groups(sums: list[str], units: list[str], which: str) -> dict[int, list[int]]:
    """Which additions each block has: by its number in transformers and mixers, else counted in depth order."""
    numbered: dict[int, list[int]] = {}
    for i, name in enumerate(sums):
        tap = taps.parse(name)
        if tap and tap.block.startswith("block") and f"{tap.module}/{tap.site}" in SITES[which]:
            numbered.setdefault(int(tap.block.removeprefix("block")), []).append(i)
    if numbered:
        return numbered
    if which != "both" and sums:
        raise BadInput(
            f"{which!r} skips are those of transformer and mixer blocks; {sums[0]} is in neither: use 'both'"
        )
    return {units.index(taps.block_of(name)) if taps.stage_of(name) else i: [i] for i, name in enumerate(sums)}


def _ranges(groups: dict[int, list[int]]) -> str:
    numbers = sorted(groups)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))
