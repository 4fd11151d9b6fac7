"""Every reader of files from strangers: how an honest file is made, and everything that reading it does."""

import functools
import json
import pickle
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests import synthetic
from tf_vitcnn.errors import BadInput


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@dataclass(frozen=True)
class Reader:
    """`make(folder)` writes the honest files and returns them by what may be damaged; `read(folder)` reads them."""

    make: object
    read: object
    zipped: bool = False


def pictures(count=6, side=24):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def see(spec):
    """Every image of a source, as a run would."""
    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.data.sources import batches, draw, naming_corrupt, open_source

    source = open_source(spec)
    order = draw(source, None, seed=0)
    source.labels()
    with naming_corrupt(source, order):
        for _ in batches(source, order[:64], (Preprocessing((8, 8)),), 4):
            pass


def make_npz(folder, save=np.savez):
    save(folder / "x.npz", images=pictures(), labels=np.arange(6))
    return [folder / "x.npz"]


def make_packed(folder):
    return make_npz(folder, np.savez_compressed)


def read_npz(folder):
    see(f"npz:{folder}/x.npz")


def make_image(kind, **options):
    def make(folder):
        from PIL import Image

        Image.fromarray(pictures()[0]).save(folder / f"x.{kind}", **options)
        return [folder / f"x.{kind}"]

    return make


@functools.cache
def decoder():
    """Traced once; a source would trace its pipeline for every input."""
    import tensorflow as tf

    from tf_vitcnn.data.images import decode

    return tf.function(lambda path: decode(tf.io.read_file(path)), input_signature=[tf.TensorSpec([], tf.string)])


def read_image(folder):
    """As a folder's source does, and with its words."""
    from tf_vitcnn.data.sources import CORRUPT

    (path,) = folder.iterdir()
    try:
        decoder()(str(path))
    except CORRUPT as error:
        raise BadInput(f"{path}: {error.message}"[:200]) from error


def weights():
    """A ViT's arrays under released names: width 8, one block, 2 heads, patch 4, 8 x 8 pixels, 3 classes."""
    rng = np.random.default_rng(0)
    d, h, m = 8, 2, 16
    block = "Transformer/encoderblock_0"
    attention = f"{block}/MultiHeadDotProductAttention_1"
    shapes = {"embedding/kernel": (4, 4, 3, d), "embedding/bias": (d,), "cls": (1, 1, d)}
    shapes |= {"Transformer/posembed_input/pos_embedding": (1, 5, d), "head/kernel": (d, 3), "head/bias": (3,)}
    for name in (f"{block}/LayerNorm_0", f"{block}/LayerNorm_2", "Transformer/encoder_norm"):
        shapes |= {f"{name}/scale": (d,), f"{name}/bias": (d,)}
    for name in ("query", "key", "value"):
        shapes |= {f"{attention}/{name}/kernel": (d, h, d // h), f"{attention}/{name}/bias": (h, d // h)}
    shapes |= {f"{attention}/out/kernel": (h, d // h, d), f"{attention}/out/bias": (d,)}
    shapes |= {f"{block}/MlpBlock_3/Dense_0/kernel": (d, m), f"{block}/MlpBlock_3/Dense_0/bias": (m,)}
    shapes |= {f"{block}/MlpBlock_3/Dense_1/kernel": (m, d), f"{block}/MlpBlock_3/Dense_1/bias": (d,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def make_checkpoint(folder):
    np.savez(folder / "x.npz", **weights())
    return [folder / "x.npz"]


def read_checkpoint(folder):
    """Sizes, strict comparison, every value; a whole model is built by the tests that say so."""
    from tf_vitcnn.checkpoints.load import checked

    found, _ = checked("vit", str(folder / "x.npz"))
    for array in found.arrays.values():
        array.values()


def make_saved_model(folder):
    import tensorflow as tf

    module = tf.Module()
    module.variables_ = [tf.Variable(value) for value in _sorted_leaves(weights())]
    checkpoint = tf.train.Checkpoint()
    checkpoint.variables = module.variables_
    tf.saved_model.save(checkpoint, str(folder / "x"))
    return [folder / "x/variables/variables.index", folder / "x/variables/variables.data-00000-of-00001"]


def _sorted_leaves(arrays):
    """In the order of jax2tf: keys sorted level by level."""
    linen = {
        name.replace("LayerNorm_2", "LayerNorm_1")
        .replace("Attention_1", "Attention_0")
        .replace("MlpBlock_3", "MlpBlock_0"): value
        for name, value in arrays.items()
    }
    return [linen[name] for name in sorted(linen, key=lambda name: name.split("/"))]


def read_saved_model(folder):
    from tf_vitcnn.checkpoints.load import checked

    found, _ = checked("vit", str(folder / "x"))
    for array in found.arrays.values():
        array.values()


def make_table(folder):
    few = synthetic.subject("vit_b32", blocks=1)
    table = synthetic.cka(few, few, synthetic.uniform)
    csv = synthetic.file(folder, table, synthetic.sidecar("cka", few))
    return [csv, csv.with_suffix(".json")]


def make_groups(folder):
    few = synthetic.subject("vit_b32", blocks=1)
    table = synthetic.cka(few, few, synthetic.uniform)
    table.attrs["groups"] = {"cka": np.random.default_rng(0).normal(size=(20, len(table)))}
    csv = synthetic.file(folder, table, synthetic.sidecar("cka", few))
    return [csv.with_suffix(".groups.npz")]


def read_table(folder):
    from tf_vitcnn.analyses import read_table

    for csv in folder.glob("cka/*.csv"):
        read_table(csv)


def make_keras(folder):
    import keras

    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(images)
    x = keras.layers.add([x, keras.layers.ReLU()(x)])
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    keras.Model(images, x).save(folder / "x.keras")
    preprocessing = {"size": [8, 8], "resize": "bilinear", "antialias": False, "crop": None, "values": "0..1"}
    card = {"recipe": {}, "preprocessing": preprocessing, "trained_on": "digits:train", "final_accuracy": 0.5}
    (folder / "x.card.json").write_text(json.dumps(card))
    return [folder / "x.keras", folder / "x.card.json"]


def read_keras(folder):
    import tf_vitcnn

    assert json.dumps(tf_vitcnn.load(str(folder / "x.keras")).provenance)


PLAN = """
[defaults]
data = "digits:train"
epochs = 3
no-skip = [1, 2]

[[run]]
name = "one"
model = "vit_custom"
fraction = 0.5

[[run]]
name = "two"
from = "{out}/one.keras"
"""


def make_plan(folder):
    (folder / "plan.toml").write_text(PLAN)
    return [folder / "plan.toml"]


def read_plan(folder):
    from tf_vitcnn.training import plan

    for run in plan.read(folder / "plan.toml"):
        run.recipe(folder)


IDENTITY = {"format": 1, "analysis": "cka", "parameters": {"images": 8}, "subjects": [{"name": "x"}], "data": {}}


def make_checkpoint_of_a_run(folder):
    from tf_vitcnn.engine.resume import Checkpoint, Place

    saved = Checkpoint(folder / "x.resume.npz", IDENTITY)
    saved.save(Place(1, 2, 3, 1, {"xy": np.ones((2, 3))}, {"pivot": np.zeros(4)}), force=True)
    return [folder / "x.resume.npz"]


def read_checkpoint_of_a_run(folder):
    from tf_vitcnn.engine.resume import Checkpoint

    Checkpoint(folder / "x.resume.npz", IDENTITY).load()


def make_training_state(folder):
    from tf_vitcnn.training import resume

    resume.save(folder / "x.state", {"recipe": 1}, resume.Progress(3), [np.ones((4, 5), np.float32)])
    return [folder / "x.state"]


def read_training_state(folder):
    from tf_vitcnn.training import resume

    class Variable:
        def assign(self, value):
            if value.shape != (4, 5):
                raise ValueError("another shape")  # as Keras does

    resume.read_identity(folder / "x.state")
    resume.restore(folder / "x.state", [Variable()])


READERS = {
    "npz": Reader(make_npz, read_npz, zipped=True),
    "npz-deflated": Reader(make_packed, read_npz, zipped=True),
    "jpeg": Reader(make_image("jpg"), read_image),
    "progressive-jpeg": Reader(make_image("jpeg", progressive=True), read_image),
    "png": Reader(make_image("png"), read_image),
    "checkpoint": Reader(make_checkpoint, read_checkpoint, zipped=True),
    "saved-model": Reader(make_saved_model, read_saved_model),
    "table": Reader(make_table, read_table),
    "groups": Reader(make_groups, read_table, zipped=True),
    "keras": Reader(make_keras, read_keras, zipped=True),
    "plan": Reader(make_plan, read_plan),
    "checkpoint-of-a-run": Reader(make_checkpoint_of_a_run, read_checkpoint_of_a_run, zipped=True),
    "training-state": Reader(make_training_state, read_training_state, zipped=True),
}


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def pickled_npz(folder, mark, member="images"):
    """An npz whose member would run code if it were unpickled."""
    header = (
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    )
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr(f"{member}.npy", header + pickle.dumps(Trap(mark)))


def rewritten(path, change):
    """A JSON file, changed."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
