"""The weights of a SavedModel, read from its checkpoint: the graph is not run, not even loaded.

Who wrote it decides how a variable tells what it is: by its name (BiT of Google), by its position alone (jax2tf, where
all are called `Variable`), by kind and order (DeiT), by order and shape (exports of the public BiT code).
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from tf_vitcnn.checkpoints import bit_npz, bit_saved_model, deit_saved_model, jax2tf, mixer_npz, vit_npz
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.variables import Variable
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ResNetSpec, Spec

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "VARIABLE_VALUE"
NAMELESS = ("", "Variable")  # the name of a variable that was given none


def read_saved_model(folder: Path, architecture: str, wanted: Spec | None) -> Found:
    """The checkpoint under released names, with its sizes."""
    there = variables(folder)
    source = str(folder)
    for names in ([v.name for v in there], [v.path for v in there]):
        arrays = dict(zip(names, (v.array for v in there), strict=True))
        if len(arrays) == len(there) and (found := _named(source, arrays, architecture)):
            return found
    if deit_saved_model.is_deit(there):
        return deit_saved_model.read(source, there, wanted, folder)
    if isinstance(wanted, ResNetSpec) or architecture == "bit" or bit_saved_model.is_bit(there):
        return bit_saved_model.read(source, there, wanted)
    return jax2tf.read(source, [v.array for v in there], wanted)


def _named(source: str, arrays: dict[str, Array], architecture: str) -> Found | None:
    """The checkpoint if its variables bear released names."""
    if bit_npz.is_bit(arrays):
        return bit_npz.read(source, arrays)
    if vit_npz.is_vit(arrays):
        return vit_npz.read(source, arrays, "exact" if architecture.startswith("deit") else "tanh")
    return mixer_npz.read(source, arrays) if mixer_npz.is_mixer(arrays) else None


def variables(folder: Path) -> list[Variable]:
    """Every floating-point variable, in the order of the model's `variables` where it keeps such a list."""
    import tensorflow as tf

    if not any((folder / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise BadInput(f"{folder}: holds no saved_model.pb; expected a SavedModel (empty a stale cache)")
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        types = reader.get_variable_to_dtype_map()
        keys = _keys(reader) if GRAPH in types else [(key, key, key) for key in sorted(types)]
        shapes = reader.get_variable_to_shape_map()
    except Exception as error:  # TensorFlow's, protobuf's, IndexError of a truncated file
        reason = " ".join(str(error).split())[:150]
        raise BadInput(f"{folder}: its variables cannot be read ({reason}); fetch it again") from error
    found = []
    for path, name, key in keys:
        if key not in types or not types[key].is_floating:
            continue  # counters and seeds
        array = Array(
            name if name not in NAMELESS else path,
            tuple(shapes[key]),
            np.dtype(types[key].as_numpy_dtype),
            _reading(folder, reader, key),
        )
        found.append(Variable(path, name, array))
    if not found:
        raise BadInput(f"{folder}: a SavedModel without variables; expected a network's weights")
    return found


def _reading(folder: Path, reader: Any, key: str) -> Any:
    def read() -> np.ndarray:
        try:
            return np.asarray(reader.get_tensor(key))
        except Exception as error:  # TensorFlow's, IndexError of a truncated file
            reason = " ".join(str(error).split())[:150]
            raise BadInput(f"{folder}: {key} cannot be read ({reason}); fetch it again") from error

    return read


def _keys(reader: Any) -> list[tuple[str, str, str]]:
    """(object path, name, key) of every variable in the object graph."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(GRAPH))
    paths = _paths(graph)
    valued: dict[int, tuple[str, str, str]] = {}
    for index, path in paths.items():
        for attribute in graph.nodes[index].attributes:
            if attribute.name == VALUE and path.split("/")[-1] != "save_counter":
                valued[index] = (path, attribute.full_name.removesuffix(":0"), attribute.checkpoint_key)
    listed = [index for index in _listed(graph) if index in valued]
    return [valued[index] for index in (listed or valued)]


def _paths(graph: Any) -> dict[int, str]:
    """Shortest path to every object; one through a list of variables tells nothing, so it is a last resort."""
    paths = {0: ""}
    for lists in (False, True):
        queue = deque(list(paths))
        while queue:
            node = queue.popleft()
            for child in graph.nodes[node].children:
                behind_list = node == 0 and child.local_name.endswith("variables")
                if child.node_id not in paths and (lists or not behind_list):
                    paths[child.node_id] = f"{paths[node]}/{child.local_name}".lstrip("/")
                    queue.append(child.node_id)
    return paths


def _listed(graph: Any) -> list[int]:
    """The objects in the root's list of variables."""
    for child in graph.nodes[0].children:
        if child.local_name == "variables":
            entries = [entry for entry in graph.nodes[child.node_id].children if entry.local_name.isdigit()]
            return [entry.node_id for entry in sorted(entries, key=lambda entry: int(entry.local_name))]
    return []
