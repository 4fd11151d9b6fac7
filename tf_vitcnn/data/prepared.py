"""Data sets that tensorflow_datasets has prepared, read by number: `NAME:SPLIT`, e.g. `imagenet2012:validation[:10%]`.

Only the directory is needed: neither the code of the data set nor a network. A TFRecord file has no index, so the
positions of its records are read once from their 12-byte heads; a record is then read by its position, checksum
included. Array-record files have an index of their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data.base import Source, digest
from tf_vitcnn.data.images import decode
from tf_vitcnn.errors import UNREADABLE, BadInput, first_line, unknown
from tf_vitcnn.tables.files import cache, replacing

# imagenet2012:validation · cifar10:3.0.2:train · a_set/config:test[:10%]+train
SPEC = re.compile(r"(?P<name>[\w./-]+(:\d+\.\d+\.\d+)?):(?P<split>[a-zA-Z_].*)")
AROUND = 16  # bytes of a TFRecord around its data: length and checksum before, checksum after


class Prepared(Source):
    """A split of a prepared set: its image feature, and its class label if it has one."""

    def __init__(self, spec: str, data_dir: str | None) -> None:
        self.spec = spec
        info, files = _find(spec, data_dir)
        self._image, self._label = _features(spec, info.features)
        self._files = [str(file.filename) for file in files]
        self._records = _reader(spec, str(info.file_format.value), files)
        self.size = len(self._records)
        if not self.size:
            raise BadInput(f"data {spec!r}: the split is empty")
        self.class_names = tuple(info.features[self._label].names) if self._label else ()
        parts = [(info.name, str(info.version), *(f.filename.rsplit("/")[-1], f.skip, f.take)) for f in files]
        self.fingerprint = digest([*parts, self._records.lengths.tobytes()])

    def load(self, index: Any) -> tuple[Any, Any]:
        """The record read, its image decoded."""
        features = {self._image: tf.io.FixedLenFeature([], tf.string)}
        if self._label:
            features[self._label] = tf.io.FixedLenFeature([], tf.int64)
        example = tf.io.parse_single_example(self._records.read(index), features)
        label = tf.cast(example[self._label], tf.int32) if self._label else tf.constant(-1)
        return decode(example[self._image]), label

    def labels(self) -> np.ndarray | None:
        """All labels; reads every record the first time, and keeps them for all runs that follow."""
        return self._all_labels if self._label else None

    @cached_property
    def _all_labels(self) -> np.ndarray:
        # by the set's own fingerprint: a set that was prepared anew is read anew
        kept = cache() / "labels" / f"{self.fingerprint}.npy"
        labels = _kept_labels(kept, self.size, self.classes)
        if labels is None:
            labels = self._read_labels()
            with contextlib.suppress(BadInput), replacing(kept) as part:  # a cache that cannot be written is none
                np.save(part, labels)
        return labels

    def _read_labels(self) -> np.ndarray:
        feature = {self._label: tf.io.FixedLenFeature([], tf.int64)}
        data = tf.data.Dataset.range(self.size).map(self._records.read, num_parallel_calls=tf.data.AUTOTUNE)
        data = data.batch(256).map(lambda records: tf.io.parse_example(records, feature)[self._label])
        return np.concatenate(list(data.as_numpy_iterator())).astype(np.int32)

    def describe(self, index: int) -> str:
        """The record's number in its file."""
        file, record = self._records.place(index)
        return f"{self.spec}: record {record} of {self._files[file]}"


def _kept_labels(path: Path, size: int, classes: int) -> np.ndarray | None:
    """Labels that an earlier run read; None where there are none, or others."""
    try:
        labels = np.load(path, allow_pickle=False)
    except UNREADABLE:
        return None
    fits = labels.shape == (size,) and labels.dtype == np.int32 and labels.min() >= -1 and labels.max() < classes
    return labels if fits else None


class TFRecords:
    """Records of TFRecord files by number, read at their offsets."""

    def __init__(self, files: list[Any]) -> None:
        with ThreadPoolExecutor(16) as pool:
            offsets = list(pool.map(lambda file: tfrecord_offsets(str(file.filename)), files))
        wanted = [slice(f.skip, None if f.take < 0 else f.skip + f.take) for f in files]
        for file, found in zip(files, offsets, strict=True):
            if file.skip + max(file.take, 0) > len(found):
                raise BadInput(f"{file.filename}: {len(found)} records; the set's description says there are more")
        self.lengths = np.concatenate([o[w, 1] for o, w in zip(offsets, wanted, strict=True)])
        self._first = np.array([file.skip for file in files])
        counts = [len(o[w]) for o, w in zip(offsets, wanted, strict=True)]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        with tf.device("CPU"):
            self._path = tf.constant([str(file.filename) for file in files])
            self._file = tf.constant(np.repeat(np.arange(len(files), dtype=np.int32), counts))
            self._offset = tf.constant(np.concatenate([o[w, 0] for o, w in zip(offsets, wanted, strict=True)]))
            self._length = tf.constant(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, index: Any) -> Any:
        """The serialized record; its checksum is verified."""
        # TFRecordDataset can start at an offset: no Python, works on any file system that TensorFlow knows
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=tf.gather(self._path, tf.gather(self._file, index))[None],
            compression_type="",
            buffer_size=tf.gather(self._length, index) + AROUND,
            byte_offsets=tf.gather(self._offset, index)[None],
        )
        record = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
        return record.take(1).get_single_element()

    def place(self, index: int) -> tuple[int, int]:
        """Which file, and which record in it."""
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        return file, int(index - self._starts[file] + self._first[file])


def tfrecord_offsets(path: str) -> np.ndarray:
    """Offset and data length of each record of a file, int64 [n, 2]."""
    if "://" in path:
        return _offsets_by_reading(path)
    head, rows, at = struct.Struct("<Q"), [], 0
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - unbuffered: only heads are read
        size = os.fstat(file.fileno()).st_size
        while at + AROUND <= size:
            (length,) = head.unpack(os.pread(file.fileno(), 8, at))
            if length > size - at - AROUND:
                break
            rows.append((at, length))
            at += length + AROUND
    if at != size:
        raise BadInput(f"{path}: broken after record {len(rows)}, at byte {at} of {size}")
    return np.array(rows, np.int64).reshape(-1, 2)


def _offsets_by_reading(path: str) -> np.ndarray:
    """The same from a remote file, where one long read is cheaper than many short ones."""
    lengths = tf.data.TFRecordDataset(path, buffer_size=2**23).map(lambda r: tf.strings.length(r, unit="BYTE"))
    length = np.array(list(lengths.as_numpy_iterator()), np.int64)
    ends = np.cumsum(length + AROUND)
    return np.stack([ends - length - AROUND, length], axis=1)


class ArrayRecords:
    """Records of array-record files by number."""

    def __init__(self, files: list[Any]) -> None:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._source = ArrayRecordDataSource(files)
        self._starts = np.concatenate([[0], np.cumsum([file.take for file in files])])
        self._first = np.array([file.skip for file in files])
        self.lengths = np.array([file.take for file in files], np.int64)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: Any) -> Any:
        """The serialized record."""
        record = tf.numpy_function(lambda i: self._source[int(i)], [index], tf.string, stateful=False)
        return tf.ensure_shape(record, [])

    place = TFRecords.place


def _find(spec: str, data_dir: str | None) -> tuple[Any, list[Any]]:
    """The set's description, and the parts of files that make the split."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    logging.getLogger("absl").setLevel(logging.ERROR)  # it reports each file that it looks at
    parsed = SPEC.fullmatch(spec)
    if not parsed:
        raise BadInput(f"data {spec!r}: expected NAME:SPLIT, e.g. imagenet2012:validation")
    root = os.path.expanduser(data_dir or str(tfds.core.constants.DATA_DIR))  # noqa: PTH111 - may be gs://
    try:
        info = read_only_builder.builder_from_files(parsed["name"], data_dir=root).info
    except Exception as error:  # tfds raises what its readers raise: anything
        raise _missing(parsed["name"], root, error) from error
    if not info.splits:
        raise BadInput(f"data {spec!r}: {root} has its description, but no files of it")
    try:
        return info, list(info.splits[parsed["split"]].file_instructions)
    except (ValueError, KeyError, AssertionError) as error:
        name = re.split(r"[\[+]", parsed["split"])[0]
        if name not in info.splits:
            raise unknown(f"split of {parsed['name']}", name, info.splits) from error
        raise BadInput(f"data {spec!r}: {first_line(error)}") from error


def _missing(name: str, root: str, error: Exception) -> BadInput:
    folder = tf.io.gfile.join(root, re.split("[/:]", name)[0])
    if tf.io.gfile.isdir(folder):
        return BadInput(f"data set {name!r} in {folder} cannot be read: {first_line(error)}")
    there = sorted(entry.strip("/") for entry in tf.io.gfile.listdir(root)) if tf.io.gfile.isdir(root) else []
    there = [entry for entry in there if entry != "downloads"]
    return BadInput(
        f"data set {name!r} is not prepared in {root} (there: {', '.join(there[:10]) or 'nothing'}); prepare it "
        f"with `tfds build {name}`, or name its place with --data-dir"
    )


def _features(spec: str, features: Any) -> tuple[str, str | None]:
    """Names of the image feature and of the class label."""
    import tensorflow_datasets as tfds

    images = [n for n, f in features.items() if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]
    labels = [n for n, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if not images:
        raise BadInput(f"data {spec!r}: no 8-bit image among its features ({', '.join(features)})")
    return (
        "image" if "image" in images else images[0],
        "label" if "label" in labels else next(iter(labels), None),
    )


def _reader(spec: str, file_format: str, files: list[Any]) -> Any:
    if file_format == "tfrecord":
        return TFRecords(files)
    if file_format == "array_record":
        return ArrayRecords(files)
    raise BadInput(f"data {spec!r}: files of format {file_format}; expected tfrecord or array_record")
