"""A functional model's sublayers shown: the same graph and weights, its output the dict of its taps.

A tap's name is its operation's. Operations of nested models get `outer/inner`, a layer's second call `NAME#2`, the
outputs of an operation that has several `NAME:0`, `NAME:1`. Layers named by our grammar, with `.` for `/`, get
their declared names back, so a model of ours is known again after it was saved without its taps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tf_vitcnn import taps as grammar
from tf_vitcnn.errors import BadInput
from tf_vitcnn.surgery.graph import Tensor, flat, require_graph
from tf_vitcnn.surgery.rewire import Change, Rewired, outputs_of, structure_of

Selection = str | Sequence[str] | Callable[[str], bool]


def expose(model: keras.Model, taps: Selection = "*") -> keras.Model:
    """A model on the same weights whose output is the dict of its taps, in depth order; the last is the output.

    Args:
        model: any functional or built Sequential model; nested models are flattened.
        taps: which ones: a glob, several, or a function from a tap's name to whether to keep it.
    """
    return selected(model, named_tensors(model), taps)


def named_tensors(model: keras.Model, change: Change | None = None) -> dict[str, Tensor]:
    """Every tap of a model by its name, in depth order, after a change of its wiring."""
    require_graph(model)
    output = structure_of(model, "output")
    if isinstance(output, dict) and all(grammar.parse(name) for name in output):
        return dict(output)  # one of ours already says what its taps are
    inputs = flat(structure_of(model, "input"))
    rewired = Rewired(change)
    rewired.run(inputs, inputs, outputs_of(model))
    if not rewired.filed:
        raise BadInput(f"{model.name!r} has no operations between its input and its output")
    if rewired.opened:
        return rewired.filed
    # a model that is exposed already is flat: what it calls its tensors still says which nested model they are of
    shown = {id(tensor): name for name, tensor in output.items()} if isinstance(output, dict) else {}
    return _declared(rewired.filed) or {shown.get(id(t), name): t for name, t in rewired.filed.items()}


def selected(model: keras.Model, tensors: dict[str, Tensor], taps: Selection) -> keras.Model:
    """The model from the same input to some of the named tensors."""
    if callable(taps):
        names = [name for name in tensors if taps(name)]
        if not names:
            given = getattr(taps, "__name__", repr(taps))
            raise BadInput(f"{given} selects none of the {len(tensors)} taps of {model.name!r}: {_some(tensors)}")
    else:
        names = grammar.select(list(tensors), [taps] if isinstance(taps, str) else taps)
    return keras.Model(structure_of(model, "input"), {name: tensors[name] for name in names}, name=model.name)


def _declared(filed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The taps of one of our own models; empty for a foreign one.

    Ours has padding and reshaping between the taps, but most operations and the last are named by the grammar.
    """
    names = [name for name in filed if grammar.parse(name)]
    if 2 * len(names) <= len(filed) or next(reversed(filed)) not in names:
        return {}
    return {name: filed[name] for name in grammar.in_depth_order(names)}


def _some(names: Any) -> str:
    return ", ".join(list(names)[:5]) + ", ..."
