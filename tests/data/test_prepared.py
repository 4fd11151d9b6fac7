"""Sets that tensorflow_datasets prepares here, offline, read back by number."""

import numpy as np
import pytest
import tensorflow as tf

from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.data.prepared import Prepared, _offsets_by_reading, tfrecord_offsets
from tf_vitcnn.data.sources import batches, draw, naming_corrupt, open_source
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import cache

tfds = pytest.importorskip("tensorflow_datasets")

COUNT = {"train": 30, "test": 11}


def pictures(split):
    rng = np.random.default_rng(len(split))
    return [rng.integers(0, 256, (6 + i % 3, 8, 3), dtype=np.uint8) for i in range(COUNT[split])]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_VITCNN_CACHE", str(tmp_path / "cache"))


class ToyShapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "name": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["round", "square", "other"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in COUNT}

    def _generate_examples(self, split):
        for i, image in enumerate(pictures(split)):
            yield i, {"name": f"{split} {i}", "image": image, "label": i % 3}


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    config = tfds.download.DownloadConfig(num_shards=3)
    ToyShapes(data_dir=root, file_format=request.param).download_and_prepare(download_config=config)
    return root


def test_read_back_by_number(prepared):
    source = open_source("toy_shapes:train", data_dir=str(prepared))
    assert (source.size, source.class_names) == (30, ("round", "square", "other"))
    builder = tfds.builder_from_directory(prepared / "toy_shapes/1.0.0")
    if builder.info.file_format.value == "tfrecord":
        theirs = list(builder.as_dataset("train", shuffle_files=False))
    else:
        theirs = list(builder.as_data_source("train"))
    np.testing.assert_array_equal(source.labels(), [int(x["label"]) for x in theirs])
    for i in (29, 0, 7):
        image, label = source.load(i)
        np.testing.assert_array_equal(image, theirs[i]["image"])
        assert int(label) == int(theirs[i]["label"])
    order = draw(source, 20, seed=1)
    data = list(batches(source, order, (Preprocessing((5, 5), values="0..255"),), 6))
    np.testing.assert_array_equal(np.concatenate([y for _, y in data]), source.labels()[order])
    expected = [tf.image.resize(theirs[i]["image"], (5, 5)) for i in order]
    np.testing.assert_allclose(np.concatenate([x[0] for x, _ in data]), expected, atol=1e-4)


def test_labels_are_read_once(prepared, monkeypatch):
    spec, root = "toy_shapes:test+train", str(prepared)
    first = open_source(spec, root).labels()
    (kept,) = [path for path in (cache() / "labels").iterdir() if len(np.load(path)) == 41]
    with monkeypatch.context() as other:
        other.setattr(Prepared, "_read_labels", lambda self: pytest.fail("read again"))
        np.testing.assert_array_equal(open_source(spec, root).labels(), first)
    for damage in (b"", kept.read_bytes()[:-4], kept.read_bytes()[:-4] + b"\xff\xff\xff\x7f"):
        kept.write_bytes(damage)
        np.testing.assert_array_equal(open_source(spec, root).labels(), first)
    np.testing.assert_array_equal(np.load(kept), first)


def test_without_a_cache_that_can_be_written_labels_are_read_all_the_same(prepared, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TF_VITCNN_CACHE", str(tmp_path / "file"))
    assert len(open_source("toy_shapes:train", str(prepared)).labels()) == 30


def test_splits(prepared):
    def labels(spec):
        return open_source(spec, data_dir=str(prepared)).labels().tolist()

    whole = labels("toy_shapes:train")
    assert labels("toy_shapes:1.0.0:train[4:17]") == whole[4:17]
    assert labels("toy_shapes:train[50%:]") == whole[15:]
    assert labels("toy_shapes:test+train[:3]") == labels("toy_shapes:test") + whole[:3]
    part = open_source("toy_shapes:train[13:17]", data_dir=str(prepared))
    assert "record 3 of" in part.describe(0) and "-00001-of-00003" in part.describe(0)


def test_fingerprint(prepared):
    prints = [
        open_source(f"toy_shapes:{s}", data_dir=str(prepared)).fingerprint
        for s in ("train", "train", "test", "train[:5]")
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 3


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("toy_shapes:val", "unknown split of toy_shapes 'val'.*train"),
        ("toy_shapes:train[x]", "data 'toy_shapes:train"),
        ("toy_shapes:train[99:]", "empty|train"),
        ("toy_shape:train", "not prepared in .*there: toy_shapes.*--data-dir"),
        ("toy_shapes:2.0.0:train", "cannot be read"),
    ],
)
def test_bad_input(prepared, spec, says):
    with pytest.raises(BadInput, match=says):
        open_source(spec, data_dir=str(prepared))


def test_offsets_of_records(prepared, tmp_path):
    path = str(tmp_path / "x.tfrecord")
    records = [b"a" * i for i in (0, 1, 500, 3)]
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    offsets = tfrecord_offsets(path)
    np.testing.assert_array_equal(offsets[:, 1], [0, 1, 500, 3])
    np.testing.assert_array_equal(offsets, _offsets_by_reading(path))
    data = (tmp_path / "x.tfrecord").read_bytes()
    (tmp_path / "x.tfrecord").write_bytes(data[:-5])
    with pytest.raises(BadInput, match="broken after record 3"):
        tfrecord_offsets(path)


def test_a_flipped_bit_is_named(tmp_path):
    ToyShapes(data_dir=tmp_path).download_and_prepare()
    (path,) = tmp_path.glob("toy_shapes/1.0.0/*test*")
    data = bytearray(path.read_bytes())
    data[tfrecord_offsets(str(path))[4, 0] + 60] ^= 1
    path.write_bytes(data)
    source = Prepared("toy_shapes:test", str(tmp_path))
    order = np.arange(source.size)
    with pytest.raises(BadInput, match=r"record 4 of .*toy_shapes-test"), naming_corrupt(source, order):
        list(batches(source, order, (Preprocessing((5, 5)),), 4))
