"""Attention opened: composite layers replaced by explicit sub-graphs on the same weights.

An opener repeats what a layer type does, sublayer by sublayer, each named by our grammar. It is found by the layer's
type, and says in a few lines what the layer does:

    @opener("keras_hub.SigLIPEncoderLayer")
    def siglip(at, layer, x):
        y = at("attn", layer.self_attn, *[at("ln1/out", layer.layer_norm1, x)] * 2)
        ...

Openers for keras-hub's vision encoders are in `hub.py`. Dropout does nothing at inference and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from tf_vitcnn.models.layers import Einsum
from tf_vitcnn.surgery.expose import named_tensors, selected
from tf_vitcnn.surgery.graph import Node, flat
from tf_vitcnn.surgery.rewire import Rewired

Opener = Callable[..., Any]
_OPENERS: dict[Any, Opener] = {}
# What a subclass may not have changed if the opener of its base is to hold for it.
_MATTERS = ("call", "_compute_attention", "_masked_softmax", "_compute_attention_mask")


def opener(layer_type: type | str) -> Callable[[Opener], Opener]:
    """Registers `function(at, layer, *args, **kwargs) -> outputs` for a layer type.

    `layer_type` is a class, or "package.ClassName" for one that is not to be imported. `at(name, sublayer, *args)`
    calls a sublayer as a tap, or opens it in turn; see `At`.
    """

    def register(function: Opener) -> Opener:
        _OPENERS[layer_type] = function
        return function

    return register


def open_attention(model: keras.Model) -> keras.Model:
    """The model whose output is the dict of its taps, those inside attention layers included; same weights.

    A layer `NAME` of attention adds `NAME/attn/q`, `/k`, `/v`, `/scores`, `/probs`, `/mixed`, `/out`; a vision encoder
    of keras-hub shows the sublayers of our own ViT under the same names. Layers without an opener stay closed.
    """
    import tf_vitcnn.surgery.hub  # noqa: F401, its openers register themselves

    return selected(model, named_tensors(model, _open), "*")


def find(layer: Any) -> Opener | None:
    """The opener of a layer's type, or of a base whose computation it did not change."""
    for base in type(layer).__mro__[:-1]:
        function = _OPENERS.get(base) or _OPENERS.get(f"{base.__module__.split('.')[0]}.{base.__name__}")
        if function:
            same = all(getattr(type(layer), part, None) is getattr(base, part, None) for part in _MATTERS)
            return function if same else None
    return None


def _open(rewired: Rewired, name: str, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The outputs of a call, opened; None where the layer is to stay as it is."""
    function = find(node.operation)
    if function is None:
        return _final_norm(rewired, node, args)
    at = At(rewired, name)
    outputs = function(at, node.operation, *args, **kwargs)
    if outputs is not None and not at.declared:
        rewired.file(name, flat(outputs))  # its own name stays a tap
    return outputs


def _final_norm(rewired: Rewired, node: Node, args: tuple[Any, ...]) -> Any:
    """The norm that reads the end of an opened encoder; where it is a layer of its own, that is our final/ln/out."""
    last = rewired.stream is not None and args and args[0] is rewired.stream
    if not last or type(node.operation) is not keras.layers.LayerNormalization or "final/ln/out" in rewired.filed:
        return None
    return At(rewired, "")("final/ln/out", node.operation, *args)


@dataclass
class At:
    """Where an opener files what it computes: names are relative to `prefix`, the layer's own."""

    rewired: Rewired
    prefix: str
    declared: bool = False  # whether the names are those of our own models
    renamed: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs of a sublayer as the tap `name`; a sublayer that has an opener is opened there."""
        full = self._full(name)
        function = find(layer)
        if function:
            # an attention layer files attn/q itself: block00/attn/q, not block00/attn/attn/q
            inner = At(self.rewired, re.sub(r"/?attn$", "", full), declared=True)
            outputs = function(inner, layer, *args, **kwargs)
            if outputs is not None:
                return outputs
        attributes = _static(layer, args[0]) if isinstance(layer, keras.layers.EinsumDense) else {}
        outputs = self.rewired.twin(layer, full, **attributes)(*args, **kwargs)
        self.rewired.file(full, flat(outputs))
        return outputs

    def dense(self, pre: str, act: str, layer: Any, x: Any) -> Any:
        """The outputs of a Dense with its activation, before and after it."""
        full = self._full(pre)
        x = self.rewired.twin(layer, full, activation=keras.activations.linear)(x)
        self.rewired.file(full, [x])
        return self(act, keras.layers.Activation(layer.activation), x)

    def add(self, name: str, skip: Any, branch: Any) -> Any:
        """The residual stream after a branch."""
        return self(name, keras.layers.Add(), [skip, branch])

    def top(self, part: str) -> At:
        """Names as in our own models, `part/...`; below the layer's name where an earlier encoder took them."""
        taken = any(name.startswith(f"{part}/") for name in self.rewired.filed)
        self.declared = True
        return At(self.rewired, self._full(part) if taken else part, declared=True)

    def _full(self, name: str) -> str:
        name = self.renamed.get(name, name)
        return f"{self.prefix}/{name}" if self.prefix else name


def _static(layer: keras.layers.EinsumDense, x: Any) -> dict[str, Any]:
    """An EinsumDense's output shape with its number of tokens, which Keras leaves open; budgets need it."""
    shape = tuple(layer.partial_output_shape)
    free = len([size for size in shape if size is None])
    if not free or not hasattr(layer, "_build_shapes_dict"):
        return {}
    # the shape it was built with goes into files, and has to agree
    full = (*x.shape[1 : 1 + free], *shape[free:])
    static = {"partial_output_shape": full, "_build_shapes_dict": {"input_shape": tuple(x.shape)}}
    # before Keras 3.13 the whole shape is kept, not computed
    return static | ({"full_output_shape": (None, *full)} if hasattr(layer, "full_output_shape") else {})


@opener(keras.layers.MultiHeadAttention)
def multi_head(at: At, layer: Any, query: Any, value: Any, key: Any = None, **options: Any) -> Any:
    """Every head's softmax(q k / sqrt(e)) v, brought back to tokens."""
    masks = _masks(query, value, key, options)
    query, value, key = _unmasked(at, query, value, key)
    q = at("attn/q", layer._query_dense, query)
    k = at("attn/k", layer._key_dense, key)
    v = at("attn/v", layer._value_dense, value)
    equations = ("bqne,bkne->bnqk", "bnqk,bkne->bqne")
    if len(q.shape) != 4:  # several axes of tokens: Keras' own equations, which take the key first
        q, k = k, q
        equations = (layer._dot_product_equation, layer._combine_equation)
    return attend(at, layer, (q, k, v), equations, masks, layer._key_dim, options, query)


@opener(keras.layers.GroupQueryAttention)
def grouped_query(at: At, layer: Any, query: Any, value: Any, key: Any = None, **options: Any) -> Any:
    """As above, with keys and values that groups of queries share: k and v [b, t, fewer n, e]."""
    masks = _masks(query, value, key, options)
    query, value, key = _unmasked(at, query, value, key)
    q = at("attn/q", layer._query_dense, query)
    k = at("attn/k", layer._key_dense, key)
    v = at("attn/v", layer._value_dense, value)
    if layer.num_repeats > 1:
        k = at("attn/k_shared", Repeat(layer.num_repeats), k)
        v = at("attn/v_shared", Repeat(layer.num_repeats), v)
    equations = ("bqne,bkne->bnqk", "bnqk,bkne->bqne")
    return attend(at, layer, (q, k, v), equations, masks, layer.head_dim, options, query)


def attend(
    at: At,
    layer: Any,
    qkv: tuple[Any, Any, Any],
    equations: tuple[str, str],
    masks: dict[str, Any],
    width: int,
    options: dict[str, Any],
    query: Any,
) -> Any:
    """The layer's outputs from queries, keys and values: scores, probs and mixed on the way."""
    q, k, v = qkv
    policy = layer.dtype_policy
    scores = at("attn/scores", Einsum(equations[0], scale=width**-0.5, dtype=policy), [q, k])
    causal = bool(options.get("use_causal_mask"))
    window = getattr(layer, "_sliding_window", None) or getattr(layer, "sliding_window", None)
    if masks or causal or window:
        probabilities = Probabilities(layer._softmax.axis, causal, window, dtype=policy)
    else:
        probabilities = keras.layers.Softmax(layer._softmax.axis, dtype=policy)
    probs = at("attn/probs", probabilities, scores, **masks)
    mixed = at("attn/mixed", Einsum(equations[1], dtype=policy), [probs, v])
    if getattr(layer, "_gate_dense", None) is not None:
        gate = at("attn/gate", layer._gate_dense, query)
        mixed = at("attn/gated", keras.layers.Multiply(dtype=policy), [mixed, gate])
    out = at("attn/out", layer._output_dense, mixed)
    return (out, probs) if options.get("return_attention_scores") else out


def _masks(query: Any, value: Any, key: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The masks of a call that are there: given, or carried by the tensors."""
    carried = {"query_mask": query, "value_mask": value, "key_mask": None if key is value else key}
    masks = {name: getattr(t, "_keras_mask", None) for name, t in carried.items()}
    masks |= {name: mask for name, mask in options.items() if name.endswith("_mask") and mask is not None}
    return {name: mask for name, mask in masks.items() if mask is not None and name != "use_causal_mask"}


def _unmasked(at: At, query: Any, value: Any, key: Any) -> list[Any]:
    """Query, value and key (value unless given) without the masks they carry, which end in the softmax."""
    tensors = {"query": query, "value": value, "key": value if key is None else key}
    new = {
        id(t): at(f"attn/unmasked_{name}", Unmasked(), t)
        for name, t in tensors.items()
        if getattr(t, "_keras_mask", None) is not None
    }
    return [new.get(id(t), t) for t in tensors.values()]


@keras.saving.register_keras_serializable("tf_vitcnn")
class Unmasked(keras.layers.Layer):
    """The same numbers without the mask that Keras hangs on a tensor."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        """A copy: the mask is an attribute of the tensor."""
        return ops.copy(x)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """None."""
        return None


@keras.saving.register_keras_serializable("tf_vitcnn")
class Probabilities(keras.layers.Layer):
    """softmax(scores [b, n, q, k]) where queries may look: masks, `causal`, or a `window` of keys on each side."""

    def __init__(self, axis: Any = -1, causal: bool = False, window: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis, self.causal, self.window = axis, causal, window

    def call(
        self,
        scores: Any,
        attention_mask: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
    ) -> Any:
        """Probabilities over keys; attention_mask [b, q, k] or [b, n, q, k], query_mask [b, q], the others [b, k]."""
        allowed = [] if attention_mask is None else [ops.cast(attention_mask, "bool")]
        allowed += [] if query_mask is None else [ops.cast(query_mask, "bool")[:, :, None]]
        allowed += [ops.cast(mask, "bool")[:, None, :] for mask in (value_mask, key_mask) if mask is not None]
        # positive where the key comes after the query
        ahead = ops.arange(scores.shape[-1])[None, None, :] - ops.arange(scores.shape[-2])[None, :, None]
        allowed += [ahead <= 0] if self.causal else []
        allowed += [ops.absolute(ahead) < self.window] if self.window else []
        heads = -2 * (len(self.axis) if isinstance(self.axis, list | tuple) else 1) - 1
        merged: Any = True
        for mask in allowed:
            while len(mask.shape) < len(scores.shape):
                mask = ops.expand_dims(mask, heads)
            merged = ops.logical_and(merged, mask)
        # its `call` alone: called as a layer it would hang the mask on the probabilities
        return keras.layers.Softmax(self.axis).call(scores, mask=merged)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "axis": self.axis, "causal": self.causal, "window": self.window}


@keras.saving.register_keras_serializable("tf_vitcnn")
class Repeat(keras.layers.Layer):
    """Each head [b, t, n, e] `times` over: what grouped queries share."""

    def __init__(self, times: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.times = times

    def call(self, x: Any) -> Any:
        """[b, t, n * times, e]."""
        return ops.repeat(x, self.times, axis=2)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "times": self.times}
