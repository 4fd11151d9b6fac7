"""A model whose residual additions lose their skip input (Fig. 8), on the same weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import keras

from tf_vitcnn import taps
from tf_vitcnn.errors import BadInput
from tf_vitcnn.opening.expose import about, is_exposed, tell
from tf_vitcnn.opening.graph import Node, Tensor, calls, flat, rewired
from tf_vitcnn.opening.links import Residual
from tf_vitcnn.opening.opened import opened, structure_of
from tf_vitcnn.opening.roles import residuals
from tf_vitcnn.opening.settle import in_order

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
    structure, output, names = _graph(model)
    outputs = in_order(output)
    found = residuals(structure, outputs, names)[0]
    chosen = _chosen(model.name, found, names, [blocks] if isinstance(blocks, int) else list(blocks), which)
    branches = {id(residual.node): residual.branch for residual in chosen}
    called = Counter(id(node.operation) for node in calls(flat(structure), outputs))

    def drop(node: Node, given: list[Tensor]) -> Tensor | None:
        """An Identity of the branch, under the addition's name, in its place."""
        if id(node) not in branches:
            return None
        place = next(i for i, t in enumerate(node.input_tensors) if t is branches[id(node)])
        # a shared addition may go on adding elsewhere, and names are unique
        own = node.operation.name
        own = own if called[id(node.operation)] == 1 else f"{own}.{node.operation._inbound_nodes.index(node)}"
        return keras.layers.Identity(name=own)(given[place])

    changed = dict(zip(map(id, outputs), rewired(flat(structure), outputs, drop), strict=True))
    packed = keras.tree.map_structure(lambda t: changed[id(t)], output)
    cut = keras.Model(structure, packed, name=model.name)
    return tell(cut, about(model)) if is_exposed(model) else cut


def _graph(model: keras.Model) -> tuple[Any, Any, dict[int, str]]:
    """Input and output of the flat graph of a model, and the names of its tensors by their id."""
    if is_exposed(model):
        inputs, output = structure_of(model, "input"), dict(structure_of(model, "output"))
        return inputs, output, {id(t): name for name, t in output.items()}
    settled = opened(model)
    inputs = flat(settled.inputs)
    return (
        inputs[0] if len(inputs) == 1 else settled.inputs,
        settled.outputs,
        {key: taps.tap_name(path) if taps.parse(taps.tap_name(path)) else path for key, path in settled.paths.items()},
    )


def _chosen(model: str, found: list[Residual], names: dict[int, str], blocks: list[int], which: str) -> list[Residual]:
    """The additions to change; a block that has none to lose is an error."""
    if which not in SITES:
        raise BadInput(f"unknown kind of skip {which!r}; available: {', '.join(SITES)}")
    sums = [names.get(id(residual.node.outputs[0]), "") for residual in found]
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
