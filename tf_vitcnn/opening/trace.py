"""A model's calls, found by running them on symbolic tensors: any Keras 3 model becomes one flat graph.

While a `Tracer` listens, a layer that is called on symbolic tensors is not recorded as one opaque call: its own
`call` runs on them, and so do those of its sublayers, down to leaves (Keras' layers that have no sublayers: Dense,
convolutions, norms, ...) and single operations (`a + b`, `ops.reshape`). Those are recorded under the path of calls
that led there. What is recorded is a twin: the originals keep their names, their weights and their calls.

A layer whose `call` cannot run so (it uses `tf.*`, or asks for values) stays one call, and a note says why.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import keras

from tf_vitcnn import taps
from tf_vitcnn.opening.fused import unfused
from tf_vitcnn.opening.graph import Node, Tensor, flat, node_of
from tf_vitcnn.opening.paths import Frame

L = keras.layers
# These may end in an activation
PRODUCTS = (
    *(L.Dense, L.EinsumDense, L.Conv1D, L.Conv2D, L.Conv3D, L.DepthwiseConv1D, L.DepthwiseConv2D, L.SeparableConv1D),
    *(L.SeparableConv2D, L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose),
)
NORMS = (
    *(L.LayerNormalization, L.BatchNormalization, L.GroupNormalization, L.UnitNormalization),
    *((L.RMSNormalization,) if hasattr(L, "RMSNormalization") else ()),
)
ONE_CALL = (*PRODUCTS, *NORMS, L.Embedding)  # their subclasses too
LOOKED_INTO = (L.Attention, L.Lambda)  # Keras' own without sublayers
VANISHING = (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.GaussianDropout, L.GaussianNoise, L.Identity)

_CALL: Callable[..., Any] = L.Layer.__call__
_LAYER_SYMBOLIC: Callable[..., Any] = L.Layer.symbolic_call
_OPERATION_SYMBOLIC: Callable[..., Any] = keras.Operation.symbolic_call
_LISTENING: ContextVar[Tracer | None] = ContextVar("listening", default=None)
_ONE_AT_A_TIME = threading.RLock()


def _binary(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """`weight * x`, which Keras does not expect of a symbolic x; `x * weight` it does."""
    own = getattr(keras.Variable, name)

    def apply(weight: Any, other: Any) -> Any:
        return operation(weight, other) if isinstance(other, keras.KerasTensor) else own(weight, other)

    return apply


BINARY = {
    name: _binary(name, operation)
    for name, operation in {
        **{"__add__": keras.ops.add, "__sub__": keras.ops.subtract, "__mul__": keras.ops.multiply},
        **{"__truediv__": keras.ops.true_divide, "__matmul__": keras.ops.matmul},
    }.items()
}


def is_leaf(layer: Any) -> bool:
    """Whether a layer's call stays one node."""
    if next(iter(layer._flatten_layers(include_self=False)), None) is not None:
        return False
    if isinstance(layer, VANISHING):
        return taps.parse(taps.tap_name(layer.name)) is not None
    home = type(layer).__module__
    ours = home.startswith(("keras.src.layers.", "keras.layers.", "tf_vitcnn."))
    return isinstance(layer, ONE_CALL) or (ours and not isinstance(layer, LOOKED_INTO))


def alias(operation: Any, name: str, **attributes: Any) -> Any:
    """The same operation, on the same weights, under another name and without calls.

    `attributes` replace some of the operation's own.
    """
    twin = object.__new__(type(operation))
    # past Layer.__setattr__, which tracks what it is given and refuses once a layer is built
    twin.__dict__.update(operation.__dict__)
    twin.__dict__.update(name=name, _inbound_nodes=[], _outbound_nodes=[], **attributes)
    return twin


@dataclass
class Tracer:
    """The flat graph while it grows."""

    paths: dict[int, str] = field(default_factory=dict)  # of each tensor, by its id
    policies: dict[int, Any] = field(default_factory=dict)  # of the layer around each node, by the node's id
    owners: dict[int, Any] = field(default_factory=dict)  # that layer
    closed: dict[str, list[str]] = field(default_factory=dict)  # why, and the calls that could not be looked into
    nodes: list[Node] = field(default_factory=list)  # all that were recorded, kept alive
    frames: list[Frame] = field(default_factory=lambda: [Frame("")])
    _twins: dict[Any, Any] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _result: Any = None

    @contextmanager
    def listen(self) -> Iterator[None]:
        """From now on, symbolic calls come here."""
        with _ONE_AT_A_TIME:
            token = _LISTENING.set(self)
            L.Layer.__call__, L.Layer.symbolic_call = _called, _layer_symbolic
            keras.Operation.symbolic_call = _operation_symbolic
            for name, function in BINARY.items():
                setattr(keras.Variable, name, function)
            try:
                yield
            finally:
                for name in BINARY:
                    delattr(keras.Variable, name)
                L.Layer.__call__, L.Layer.symbolic_call = _CALL, _LAYER_SYMBOLIC
                keras.Operation.symbolic_call = _OPERATION_SYMBOLIC
                _LISTENING.reset(token)

    @property
    def notes(self) -> list[str]:
        """What could not be looked into, in a line for each reason."""
        others = {why: f" and {len(paths) - 1} more" if len(paths) > 1 else "" for why, paths in self.closed.items()}
        return [f"{paths[0]}{others[why]} {why}" for why, paths in self.closed.items()]

    def layer(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """The outputs of a layer's call."""
        if is_leaf(layer):
            return self._leaf(layer, self.frames[-1].child(layer), args, kwargs)
        path = "" if len(self.frames) == 1 and isinstance(layer, keras.Model) else self.frames[-1].child(layer) + "/"
        before = len(self.nodes), set(self._names), dict(self._twins)
        graph = isinstance(layer, keras.Function | keras.Sequential)
        self.frames.append(Frame(path, layer, graph and self.frames[-1].in_summary))
        try:
            return self._inside(layer, args, kwargs)
        except Exception as error:  # whatever its code raises on tensors without values
            if not path:
                raise
            del self.nodes[before[0] :]
            self._names, self._twins = before[1], before[2]
            self.closed.setdefault(f"({type(layer).__name__}) stays one tap: {reason(error)}", []).append(path[:-1])
        finally:
            self.frames.pop()
        return self._leaf(layer, path[:-1], args, kwargs)

    def _inside(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """A layer's own outputs; Keras' bookkeeping around its call is left to Keras, on stand-ins."""
        stand_ins = self._undone(layer, args, kwargs)
        outputs = self._result
        for stand_in, tensor in zip(stand_ins, flat(outputs), strict=True):
            if getattr(stand_in, "_keras_mask", None) is not None:
                tensor._keras_mask = stand_in._keras_mask
        return outputs

    def _undone(self, layer: Any, args: Any, kwargs: Any) -> list[Tensor]:
        """What Keras gives for a call, of which no trace stays in the graph."""
        count = len(layer._inbound_nodes)
        results = flat(_CALL(layer, *args, **kwargs))
        for node in layer._inbound_nodes[count:]:
            for t in node.input_tensors:
                maker = t._keras_history.operation
                maker._outbound_nodes[:] = [n for n in maker._outbound_nodes if n is not node]
        del layer._inbound_nodes[count:]
        return results

    def _leaf(self, layer: Any, path: str, args: Any, kwargs: Any) -> Any:
        """One call, of the layer's twin; a product's activation is a call of its own."""
        if not getattr(layer, "built", True):  # its `build` is bound to it: a twin could not be built
            self._undone(layer, args, kwargs)
        mask = getattr(args[0], "_keras_mask", None) if args else None
        if mask is not None and "mask" in inspect.signature(layer.call).parameters:
            kwargs = {"mask": mask, **kwargs}
        activation = getattr(layer, "activation", None) if isinstance(layer, (*PRODUCTS, L.Activation)) else None
        if isinstance(layer, L.Activation) and not _is_known(activation):
            return self._activation(layer, activation, path, args[0])
        if activation in (None, keras.activations.linear) or isinstance(layer, L.Activation):
            return self._record(self._twin(layer, path, args), path, args, kwargs)
        linear = {"activation": keras.activations.linear}
        x = self._record(self._twin(layer, f"{path}/pre", args, **linear), f"{path}/pre", args, kwargs)
        return self._activation(layer, activation, path, x)

    def _activation(self, layer: Any, activation: Any, path: str, x: Tensor) -> Tensor:
        """A layer's activation of its own name; one that files do not know by name is looked into."""
        if not _is_known(activation):
            self.frames.append(Frame(f"{path}/", layer))
            try:
                count = len(self.nodes)
                outputs = activation(x)
                for node in self.nodes[count:]:
                    self.paths.update((id(t), "") for t in node.outputs)
                self.paths[id(outputs)] = path
                return outputs
            except Exception as error:  # its code on tensors without values, as for layers
                self.closed.setdefault(f"stays one tap: {reason(error)}", []).append(path)
            finally:
                self.frames.pop()
        after = self._twins.get((id(layer), "activation"))
        if after is None:
            after = L.Activation(activation, dtype=layer.dtype_policy, name=self._free(path))
            self._twins[id(layer), "activation"] = after
        return self._record(after, path, (x,), {})

    def _twin(self, layer: Any, path: str, args: Any, **attributes: Any) -> Any:
        if isinstance(layer, L.EinsumDense):
            attributes |= _static(layer, args[0])
        key = (id(layer), str(attributes.get("partial_output_shape", "")))
        if key not in self._twins:
            # the original is held, so that its id stays its own
            self._twins[key] = alias(layer, self._free(path), **attributes)
            self._twins[key, "of"] = layer
        return self._twins[key]

    def _free(self, path: str) -> str:
        name = re.sub(r"#\d+", "", path).replace("/", ".")
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _record(self, operation: Any, path: str, args: Any, kwargs: Any) -> Any:
        kwargs = {name: value for name, value in kwargs.items() if name != "training" or value}  # inference by default
        token = _LISTENING.set(None)
        try:
            outputs = operation(*args, **kwargs)
        finally:
            _LISTENING.reset(token)
        return self._note(path, outputs)

    def operation(self, operation: Any, args: Any, kwargs: Any) -> Any:
        """The outputs of a bare operation."""
        if type(operation).__name__ == "ConvertToTensor" and operation.dtype in (None, args[0].dtype):
            return args[0]
        path = self.frames[-1].child(operation)
        if type(operation).__name__ == "DotProductAttention":
            self.frames.append(Frame(f"{path}/", self.frames[-1].owner))
            try:
                # Keras before 3.11 passes on how it may be sped up
                given = {key: value for key, value in kwargs.items() if value is not None and key != "flash_attention"}
                return unfused(*args, **given, causal=operation.is_causal)
            finally:
                self.frames.pop()
        return self._note(path, _OPERATION_SYMBOLIC(alias(operation, self._free(path)), *args, **kwargs))

    def _note(self, path: str, outputs: Any) -> Any:
        results = flat(outputs)
        node = node_of(results[0])
        self.nodes.append(node)
        owner = self.frames[-1].owner
        self.owners[id(node)] = owner
        self.policies[id(node)] = owner.dtype_policy if owner is not None and owner.autocast else None
        for i, t in enumerate(results):
            t._sparse = False  # Keras takes `2 * x` for sparse
            self.paths[id(t)] = f"{path}:{i}" if len(results) > 1 else path
        return outputs


def reason(error: Exception) -> str:
    """What went wrong, in a line: Keras wraps the words of an error in those of every layer around it."""
    inner = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", str(error), flags=re.DOTALL)
    words = re.sub(r"\x1b\[\d+m", "", inner[-1] if inner else str(error))
    return f"{type(error).__name__}: {' '.join(words.split())[:160]}"


def _static(layer: Any, x: Tensor) -> dict[str, Any]:
    """An EinsumDense's output shape with its number of tokens, which Keras leaves open; budgets need it."""
    shape = tuple(layer.partial_output_shape)
    free = len([size for size in shape if size is None])
    if not free or not hasattr(layer, "_build_shapes_dict"):
        return {}
    # the shape it was built with goes into files, and has to agree
    full = (*x.shape[1 : 1 + free], *shape[free:])
    static = {"partial_output_shape": full, "_build_shapes_dict": {"input_shape": (None, *x.shape[1:])}}
    # before Keras 3.13 the whole shape is kept, not computed
    return static | ({"full_output_shape": (None, *full)} if hasattr(layer, "full_output_shape") else {})


def _is_known(activation: Any) -> bool:
    """Whether Keras finds an activation again by what it writes into a file."""
    name = getattr(activation, "__name__", "")
    return getattr(keras.activations, name, None) is activation or keras.saving.get_registered_name(activation) != name


def _symbolic(args: Any, kwargs: Any) -> bool:
    return any(isinstance(t, keras.KerasTensor) for t in keras.tree.flatten((args, kwargs)))


def _called(layer: Any, *args: Any, **kwargs: Any) -> Any:
    tracer = _LISTENING.get()
    if tracer is None or not _symbolic(args, kwargs):
        return _CALL(layer, *args, **kwargs)
    return tracer.layer(layer, args, kwargs)


def _layer_symbolic(layer: Any, *args: Any, **kwargs: Any) -> Any:
    tracer = _LISTENING.get()
    if tracer is None or tracer.frames[-1].owner is not layer:
        return _LAYER_SYMBOLIC(layer, *args, **kwargs)
    tracer._result = outputs = layer.call(*args, **kwargs)
    stand_ins = [keras.KerasTensor(t.shape, t.dtype) for t in flat(outputs)]
    return stand_ins[0] if len(stand_ins) == 1 else stand_ins


def _operation_symbolic(operation: Any, *args: Any, **kwargs: Any) -> Any:
    tracer = _LISTENING.get()
    if tracer is None:
        return _OPERATION_SYMBOLIC(operation, *args, **kwargs)
    return tracer.operation(operation, args, kwargs)
