"""The reader for whatever a path or handle leads to."""

from __future__ import annotations

from tf_vitcnn.checkpoints import bit_npz, fetch, mixer_npz, vit_npz
from tf_vitcnn.checkpoints.arrays import Array
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.npz import open_npz
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import Spec


def open_checkpoint(where: str, architecture: str, wanted: Spec | None) -> Found:
    """The checkpoint behind a file name, folder or handle, its arrays unread."""
    path = fetch.local(where, architecture)
    if path.is_dir():
        from tf_vitcnn.checkpoints.saved_model import read_saved_model

        return read_saved_model(path, architecture, wanted)
    if path.suffix != ".npz":
        raise BadInput(
            f"{path}: unknown kind of file; expected an .npz or a SavedModel's folder (a .keras file stands alone)"
        )
    gelu = "exact" if architecture.startswith("deit") else "tanh"
    return by_name(str(path), open_npz(path), gelu)


def by_name(source: str, arrays: dict[str, Array], gelu: str = "tanh") -> Found:
    """The checkpoint whose released names the arrays bear."""
    if vit_npz.is_vit(arrays):
        return vit_npz.read(source, arrays, gelu)
    if bit_npz.is_bit(arrays):
        return bit_npz.read(source, arrays)
    if mixer_npz.is_mixer(arrays):
        return mixer_npz.read(source, arrays)
    first = ", ".join(list(arrays)[:4])
    raise BadInput(f"{source}: no layout of ViT, BiT or MLP-Mixer that we know; its arrays are called {first}, ...")
