"""Any Keras model's sublayers shown: a flat graph on the same weights, its output the dict of its taps.

A tap's name is its path of calls (`encoder/layer_3/attention/query`): a layer's second call is `NAME#2`, the outputs of
an operation that has several `NAME:0`, `NAME:1`. Where the structure is a ViT's or a Mixer's block or a ResNet's unit,
taps bear the names of our own models. One tensor has one tap: reshapes and casts have none, nor has arithmetic inside
of attention. Layers named by our grammar, with `.` for `/`, get their declared names back.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from tf_vitcnn import taps as grammar
from tf_vitcnn.errors import BadInput
from tf_vitcnn.opening.applied import Applied
from tf_vitcnn.opening.attention import Core, Part, cores, shown
from tf_vitcnn.opening.blocks import Anatomy, named
from tf_vitcnn.opening.graph import Node, Tensor, calls, flat, node_of
from tf_vitcnn.opening.links import SAME, Links, has_kernel, kind
from tf_vitcnn.opening.opened import Size, opened, structure_of
from tf_vitcnn.opening.paths import snake
from tf_vitcnn.opening.settle import Settled, in_order
from tf_vitcnn.opening.trace import is_leaf

Selection = str | Sequence[str] | Callable[[str], bool]
# Arithmetic of single operations that is no step of the network by itself
QUIET = (
    *(*SAME, "GetItem", "Split", "Stack", "Negative", "Repeat", "Tile", "BroadcastTo", "Where", "Pad", "Unstack"),
    *("ZeroPadding1D", "ZeroPadding2D", "Rescaling", "Subtract", "Divide", "TrueDivide", "Power", "Sqrt"),
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
)
MEGABYTES = 4e6  # of copies, from which on it is said


@dataclass
class About:
    """What was found while a model was opened."""

    paths: dict[str, str] = field(default_factory=dict)  # of each tap that bears a name of our grammar
    notes: list[str] = field(default_factory=list)
    copied: int = 0  # bytes of what its code computes from weights alone


_ABOUT: weakref.WeakKeyDictionary[keras.Model, About] = weakref.WeakKeyDictionary()


def about(model: keras.Model) -> About:
    """What was found while this model was opened; nothing for one that was not opened here."""
    return _ABOUT.get(model, About())


def tell(model: keras.Model, known: About) -> keras.Model:
    """The model, with what is known about it."""
    _ABOUT[model] = known
    return model


def expose(model: keras.Model, taps: Selection = "*", image_size: Size | None = None) -> keras.Model:
    """A model on the same weights whose output is the dict of its taps, in depth order; the last is the output.

    Args:
        model: any Keras model, functional, Sequential or subclassed; nested models are flattened.
        taps: which ones: a glob, several, or a function from a tap's name to whether to keep it.
        image_size: height and width, for a model that takes any.
    """
    inputs, tensors, found = _tensors(model, image_size)
    return tell(keras.Model(inputs, selected(model.name, tensors, taps), name=model.name), found)


def open_attention(model: keras.Model, image_size: Size | None = None) -> keras.Model:
    """`expose` by another name: attention is always open."""
    return expose(model, "*", image_size)


def named_tensors(model: keras.Model) -> dict[str, Tensor]:
    """Every tap of a model by its name, in depth order."""
    return _tensors(model)[1]


def selected(model: str, tensors: dict[str, Tensor], taps: Selection) -> dict[str, Tensor]:
    """Some of the named tensors."""
    if callable(taps):
        names = [name for name in tensors if taps(name)]
        if not names:
            given = getattr(taps, "__name__", repr(taps))
            raise BadInput(
                f"{given} selects none of the {len(tensors)} taps of {model!r}: {', '.join(list(tensors)[:5])}, ..."
            )
    else:
        names = grammar.select(list(tensors), [taps] if isinstance(taps, str) else taps)
    return {name: tensors[name] for name in names}


def is_exposed(model: keras.Model) -> bool:
    """Whether a model's output is a dict of taps already: made here, one of ours, or saved with most of its steps."""
    output = structure_of(model, "output") if isinstance(model, keras.Function) else None
    if not isinstance(output, dict) or not output:
        return False
    if model in _ABOUT or all(grammar.parse(name) for name in output):
        return True
    layers = (operation for operation in model.operations if isinstance(operation, keras.layers.Layer))
    return 2 * len(output) > len(model.operations) and all(map(is_leaf, layers))


def _tensors(model: keras.Model, image_size: Size | None = None) -> tuple[Any, dict[str, Tensor], About]:
    if is_exposed(model):
        return structure_of(model, "input"), dict(structure_of(model, "output")), about(model)
    settled = opened(model, image_size)
    outputs = in_order(settled.outputs)
    nodes = calls(flat(settled.inputs), outputs)
    if not nodes:
        raise BadInput(f"{model.name!r} has no operations between its input and its output")
    found = About(notes=settled.notes, copied=settled.copied)
    if settled.copied > MEGABYTES:
        found.notes.append(f"{settled.copied / 1e6:.0f} MB that its code computes from weights alone are copies")
    ours = _declared(settled, nodes)
    tensors = ours or _Taps(settled, Links(nodes, outputs), outputs, found).tensors()
    inputs = flat(settled.inputs)
    return inputs[0] if len(inputs) == 1 else settled.inputs, tensors, found


def _declared(settled: Settled, nodes: Sequence[Node]) -> dict[str, Tensor]:
    """The taps of one of our own models; empty for a foreign one.

    Ours has padding and reshaping between the taps, but most operations and the last are named by the grammar.
    """
    named = {grammar.tap_name(settled.paths.get(id(t), "")): t for node in nodes for t in node.outputs}
    names = [name for name in named if grammar.parse(name)]
    if 2 * len(names) <= len(named) or next(reversed(named)) not in names:
        return {}
    return {name: named[name] for name in grammar.in_depth_order(names)}


@dataclass
class _Taps:
    """The choice of a foreign model's taps, and their names."""

    settled: Settled
    links: Links
    outputs: list[Tensor]
    found: About
    places: dict[str, tuple[float, Tensor]] = field(default_factory=dict)  # by name: where in depth, and what
    taken: set[str] = field(default_factory=set)  # names of operations

    def __post_init__(self) -> None:
        self.taken = {node.operation.name for node in self.links.nodes}

    def tensors(self) -> dict[str, Tensor]:
        """Taps by name, in depth order."""
        attentions = cores(self.links)
        names, placed = named(Anatomy(self.links, attentions), self.outputs)
        inside = self._attention(attentions, {id(core.softmax): block for block, core in placed}, names)
        for name, tensor in names.items():
            self._file(name, tensor)
        seen = {id(self.links.root(t)) for t in names.values()} | inside
        for node in self.links.nodes:
            for tensor in node.outputs:
                last = any(tensor is t for t in self.outputs)
                if id(self.links.root(tensor)) not in seen and (last or self._is_step(node, inside)):
                    seen.add(id(self.links.root(tensor)))
                    self._file(self.settled.paths[id(tensor)], tensor)
        return {name: tensor for name, (_, tensor) in sorted(self.places.items(), key=lambda item: item[1][0])}

    def _is_step(self, node: Node, inside: set[int]) -> bool:
        """Whether what a call gives is a step of the network: no arithmetic on the way, no concatenation of tokens."""
        shape = node.outputs[0].shape
        if id(node.outputs[0]) in inside or kind(node) in QUIET or len(shape) < 2:
            return False
        if id(node.outputs[0]) not in self.settled.paths:
            return False  # inside of an activation
        if isinstance(node.operation, keras.layers.Layer) and not isinstance(node.operation, Applied):
            return True
        return (
            len(shape) == 4 if kind(node) == "Concatenate" else kind(node) != "Multiply" or len(node.input_tensors) > 1
        )

    def _file(self, name: str, tensor: Tensor, place: float | None = None) -> None:
        """A tap under its name; its operation is called so too, so that files tell."""
        node = node_of(tensor)
        rows = self.settled.per_image.get(id(tensor), 1)
        if place is None:
            place = self.links.place[id(node)]
            if rows > 1:  # windows, folded into the images
                tensor = ops.reshape(tensor, (-1, rows, *tensor.shape[1:]))
                node_of(tensor).operation.name = f"{node.operation.name}.view"
        if grammar.parse(name) or "/attn/" in name:
            path = self.settled.paths.get(id(tensor), "")
            if path and path != name:
                self.found.paths[name] = path
            wanted = grammar.layer_name(re.sub(r"#\d+", "", name))
            if len(node.outputs) == 1 and len(node.operation._inbound_nodes) == 1 and wanted not in self.taken:
                node.operation.name = wanted
                self.taken.add(wanted)
        self.places[name] = place, tensor

    def _attention(self, attentions: Sequence[Core], blocks: dict[int, str], names: dict[str, Tensor]) -> set[int]:
        """Files the parts of each attention, and names what it gives; gives the ids of what lies between them."""
        inside: set[int] = set()
        taken: set[str] = set()
        for core in attentions:
            prefix = blocks.get(id(core.softmax))
            if prefix is None:
                prefix = self._prefix(core, taken)
                names.update({f"{prefix}/attn/out".lstrip("/"): t for t in self._out(core)})
            taken.add(prefix)
            windows = self._windows(core)
            for name, part in core.parts.items():
                self._part(f"{prefix}/attn/{name}".lstrip("/"), part, windows)
            # they are computed when they are read; a reader wants them side by side
            read = [
                f"{prefix}/attn/{name}".lstrip("/") for name in core.parts if name not in ("scores", "probs", "mixed")
            ]
            first = min(self.places[name][0] for name in read if name in self.places)
            for i, name in enumerate(read):
                if name in self.places:
                    self.places[name] = first + i / 16, self.places[name][1]
            inside |= self._between(core)
        return inside

    def _out(self, core: Core) -> list[Tensor]:
        """What is projected of the mixed values, if that is all that reads them."""
        tensor = core.parts["mixed"].tensor
        while len(readers := self.links.readers.get(id(tensor), [])) == 1:
            tensor = readers[0].outputs[0]
            if has_kernel(readers[0]):
                return [tensor]
            if kind(readers[0]) not in SAME:
                break
        return []

    def _prefix(self, core: Core, taken: set[str]) -> str:
        """The path of the layer around an attention."""
        path = self.settled.paths[id(core.softmax.outputs[0])]
        prefix = path.rpartition("/")[0]
        if snake(core.softmax.operation) == "softmax" and prefix.endswith("dot_product_attention"):
            prefix = prefix.rpartition("/")[0]
        prefix = re.sub(r"/?attn$", "", prefix) if prefix else ("" if not taken else path)
        while prefix in taken:
            prefix += "_"
        return prefix

    def _windows(self, core: Core) -> int:
        """How many windows of an image were folded into the images before keys were projected."""
        ids = self.links.before(core.parts["k"].tensor)
        kernels = [n for n in self.links.nodes if has_kernel(n) and id(n.outputs[0]) in ids]
        return self.settled.per_image.get(id(kernels[-1].outputs[0]), 1) if kernels else 1

    def _part(self, name: str, part: Part, windows: int) -> None:
        if not self.links.maker.get(id(part.tensor)):
            return  # the same for every image: a probe's queries
        rows = self.settled.per_image.get(id(part.tensor), 1)
        place = float(self.links.place[id(node_of(part.tensor))])
        new: list[Tensor] = []

        def told(tensor: Tensor) -> Tensor:
            node_of(tensor).operation.name = grammar.layer_name(name) + ".view" + "_" * len(new)
            new.append(tensor)
            return tensor

        tensor = shown(part, rows, windows, told)
        self._file(name, tensor, place)

    def _between(self, core: Core) -> set[int]:
        """What is computed between queries, keys and values and what is mixed of them."""
        given = {id(core.parts[name].tensor) for name in ("q", "k", "v") if name in core.parts}
        seen = set[int]()
        stack = [core.parts["mixed"].tensor]
        found = [part.tensor for part in core.parts.values()]
        while stack:
            tensor = stack.pop()
            if id(tensor) not in seen | given and id(tensor) in self.links.maker:
                seen.add(id(tensor))
                found.append(tensor)
                stack += self.links.maker[id(tensor)].input_tensors
        return {id(t) for t in found} | {id(self.links.root(t)) for t in found}
