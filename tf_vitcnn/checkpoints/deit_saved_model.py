"""DeiT weights from the Keras 2 exports of deit-tf: by kind, and by order within a kind.

Names carry counters of the process that wrote them (`layer_normalization_37`), so their numbers mean nothing. Query,
key and value kernels are matrices [D, D]; GELU is exact.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tf_vitcnn.checkpoints import vit_npz
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import Spec, ViTSpec

if TYPE_CHECKING:
    from tf_vitcnn.checkpoints.variables import Variable

# the first pattern found in "name path" tells the kind
KINDS = (
    ("positions", r"pos_embedding|positional_embedding"),
    ("dist", r"dist_token"),
    ("cls", r"(^|[/ ])cls(_token)?($|[/ ])"),
    ("embed", r"conv_projection|(^|[/ ])projection/"),
    ("head_dist", r"distillation_head|head_dist"),
    ("head", r"classification_head|(^|[/ ])head/"),
    ("query", r"query"),
    ("key", r"(^|/)key/"),
    ("value", r"(^|/)value/"),
    ("out", r"output/dense|dense_output"),
    ("norm", r"layer_norm|(^|[/ ])ln"),
    ("dense", r"dense"),
)
SINGLE = {vit_npz.POSITIONS: "positions", "cls": "cls", "dist": "dist"}
HEAD_WIDTH = 64  # of every DeiT
ATTENTION = "MultiHeadDotProductAttention_1"


def is_deit(variables: Sequence[Variable]) -> bool:
    """Whether the names are those of deit-tf."""
    kinds = {_kind(v) for v in variables}
    return {"positions", "query", "key", "value"} <= kinds


def read(source: str, variables: Sequence[Variable], wanted: Spec | None, folder: Path) -> Found:
    """The checkpoint under the names of ViT, with its sizes."""
    kinds: dict[str, list[Variable]] = defaultdict(list)
    for variable in variables:
        kinds[_kind(variable)].append(variable)
    if kinds["other"]:
        strange = ", ".join(v.name or v.path for v in kinds["other"][:4])
        raise BadInput(f"{source}: {strange} are no weights of DeiT; expected an export of deit-tf")
    arrays = {key: found[0].array for key, kind in SINGLE.items() if (found := kinds[kind])}
    for key, kind in (("embedding", "embed"), ("head", "head"), ("head_dist", "head_dist")):
        arrays |= {f"{key}/{leaf}": array for leaf, found in _pairs(kinds[kind]).items() for array in found}
    _blocks(source, kinds, arrays, _heads(kinds, wanted, folder))
    return vit_npz.read(source, arrays, gelu="exact")


def _kind(variable: Variable) -> str:
    """What a variable is, from its name and its path of objects together."""
    text = f"{variable.name} {variable.path}"
    return next((kind for kind, pattern in KINDS if re.search(pattern, text)), "other")


def _pairs(variables: Sequence[Variable]) -> dict[str, list[Array]]:
    """Kernels and biases (or gammas and betas), each in order; vectors and matrices tell where names do not."""
    leaves: dict[str, list[Array]] = defaultdict(list)
    for variable in variables:
        last = (variable.name or variable.path).split("/")[-1]
        leaf = last if last in ("kernel", "bias", "gamma", "beta") else variable.path.split("/")[-1]
        if leaf not in ("kernel", "bias", "gamma", "beta"):
            leaf = "bias" if len(variable.array.shape) == 1 else "kernel"
        leaves[leaf].append(variable.array)
    return leaves


def _heads(kinds: dict[str, list[Variable]], wanted: Spec | None, folder: Path) -> int:
    """How many heads share the matrices; shapes do not tell, the signature's attention maps do."""
    width = kinds["query"][0].array.shape[-1]
    if isinstance(wanted, ViTSpec) and wanted.width == width:
        return wanted.heads
    return _heads_of_signature(folder) or max(1, width // HEAD_WIDTH)


def _heads_of_signature(folder: Path) -> int | None:
    """The second axis of an attention map [b, heads, t, t] among the declared outputs."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    path = folder / "saved_model.pb"
    if path.is_file():
        model.ParseFromString(path.read_bytes())
    for graph in model.meta_graphs:
        for signature in graph.signature_def.values():
            for tensor in signature.outputs.values():
                sizes = [dim.size for dim in tensor.tensor_shape.dim]
                if len(sizes) == 4 and sizes[1] > 0 and sizes[2] == sizes[3]:
                    return sizes[1]
    return None


def _blocks(source: str, kinds: dict[str, list[Variable]], arrays: dict[str, Array], heads: int) -> None:
    """Files every block's weights under ViT's names."""
    parts = {kind: _pairs(kinds[kind]) for kind in ("query", "key", "value", "out", "norm", "dense")}
    depth, width = len(parts["query"]["kernel"]), kinds["query"][0].array.shape[-1]
    if width % heads:
        raise BadInput(f"{source}: width {width} is not divided by {heads} heads; expected another architecture")
    split = (heads, width // heads)
    each = {"norm": 2, "dense": 2}
    wrong = [
        f"{len(found)} of {kind}/{leaf} instead of {expected}"
        for kind, leaves in parts.items()
        for leaf, found in leaves.items()
        if len(found) != (expected := depth * each.get(kind, 1) + (kind == "norm"))
    ]
    if wrong:
        raise BadInput(f"{source}: the weights of {depth} blocks are not in step: {', '.join(wrong)}")
    for i in range(depth):
        block = f"{vit_npz.BLOCK}{i}"
        for kind in ("query", "key", "value"):
            arrays[f"{block}/{ATTENTION}/{kind}/kernel"] = parts[kind]["kernel"][i].reshaped((width, *split))
            arrays[f"{block}/{ATTENTION}/{kind}/bias"] = parts[kind]["bias"][i].reshaped(split)
        arrays[f"{block}/{ATTENTION}/out/kernel"] = parts["out"]["kernel"][i].reshaped((*split, width))
        arrays[f"{block}/{ATTENTION}/out/bias"] = parts["out"]["bias"][i]
        for j, name in enumerate(("LayerNorm_0", "LayerNorm_2")):
            arrays[f"{block}/{name}/scale"] = parts["norm"]["gamma"][2 * i + j]
            arrays[f"{block}/{name}/bias"] = parts["norm"]["beta"][2 * i + j]
        for j in range(2):
            for leaf in ("kernel", "bias"):
                arrays[f"{block}/MlpBlock_3/Dense_{j}/{leaf}"] = parts["dense"][leaf][2 * i + j]
    arrays["Transformer/encoder_norm/scale"] = parts["norm"]["gamma"][-1]
    arrays["Transformer/encoder_norm/bias"] = parts["norm"]["beta"][-1]
