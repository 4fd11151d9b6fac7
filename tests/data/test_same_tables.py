"""The same images give the same table, whatever they are kept in."""

import numpy as np
import pytest
from PIL import Image

from tests import toys
from tf_vitcnn.data.sources import open_source
from tf_vitcnn.engine.door import run
from tf_vitcnn.tables.read import differences

tfds = pytest.importorskip("tensorflow_datasets")

COUNT = 26


class ToyBoxes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(20, 30, 3), encoding_format="png")
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"image": image}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        images = np.random.default_rng(0).integers(0, 256, (COUNT, 20, 30, 3), dtype=np.uint8)
        yield from ((i, {"image": image}) for i, image in enumerate(images))


def test_the_same_table_from_a_folder_an_npz_and_a_prepared_set(tmp_path):
    ToyBoxes(data_dir=tmp_path).download_and_prepare()
    prepared = open_source("toy_boxes:train", str(tmp_path))
    images = [np.asarray(prepared.load(i)[0]) for i in range(COUNT)]  # the set has its own order
    np.savez(tmp_path / "boxes.npz", images=np.stack(images))
    (tmp_path / "boxes").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "boxes" / f"{i:02}.png")
    sources = (prepared, f"npz:{tmp_path}/boxes.npz", f"folder:{tmp_path}/boxes")
    setting = {"images": 20, "batch": 10, "seed": 3, "repeats": 1}
    tables = [run("cka", toys.shared("vit"), source, **setting) for source in sources]
    texts = [table.to_csv(index=False, float_format="%.6g") for table in tables]
    assert texts[0] == texts[1] == texts[2]
    first, *others = (table.attrs["sidecar"] for table in tables)
    for other in others:
        assert {line.split(":")[0] for line in differences(first, other)} == {"data.spec", "data.fingerprint"}
