"""Image files in folders: one folder per class, or one folder of images without labels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data.base import Source, digest
from tf_vitcnn.data.images import decode
from tf_vitcnn.errors import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 2**28  # of one image file
SAMPLED, END = 4096, 4096  # files whose last bytes are read, and how many: seconds for a folder of any size


class Folder(Source):
    """`folder:DIR`: classes are its sub-folders in sorted order; without sub-folders, images without labels.

    The fingerprint is of all names and sizes, and of the ends of at most SAMPLED files at even distances: of all files
    in a folder that has no more. Where a larger folder's image was changed to another of the same size it may not show.
    """

    def __init__(self, spec: str, root: str) -> None:
        self.spec = spec
        self._root = Path(root).expanduser()
        if not self._root.is_dir():
            raise BadInput(f"{root}: no such folder; expected class sub-folders of JPEG or PNG images")
        folders, loose = _entries(self._root)
        by_class = [sorted(_images(folder, set())) for folder in folders]
        if loose and any(by_class):
            raise BadInput(f"{root}: images beside class folders ({loose[0][0].name}, ...); move them into a class")
        files = [file for group in by_class for file in group] or loose
        if not files:
            raise BadInput(f"{root}: no JPEG or PNG image in it or in its sub-folders")
        self.class_names = tuple(folder.name for folder in folders) if any(by_class) else ()
        self._labels = np.repeat(np.arange(len(by_class), dtype=np.int32), [len(g) for g in by_class])
        self._paths = [str(path) for path, _ in files]
        self.size = len(files)
        # names of files hold those of classes
        names = ((path.relative_to(self._root).as_posix(), size) for path, size in files)
        ends = (_end(*file) for file in files[:: -(-len(files) // SAMPLED)])
        self.fingerprint = digest(itertools.chain(names, ends))
        with tf.device("CPU"):
            self._path = tf.constant(self._paths)
            self._bytes = tf.constant([size for _, size in files], tf.int64)
            self._label = tf.constant(self._labels if self.class_names else np.full(self.size, -1, np.int32))

    def load(self, index: Any) -> tuple[Any, Any]:
        """The file decoded."""
        small = tf.debugging.Assert(tf.gather(self._bytes, index) <= MAX_BYTES, ["file too large for an image"])
        with tf.control_dependencies([small]):
            data = tf.io.read_file(tf.gather(self._path, index))
        return decode(data), tf.gather(self._label, index)

    def labels(self) -> np.ndarray | None:
        """The number of each image's class folder, or none."""
        return self._labels if self.class_names else None

    def describe(self, index: int) -> str:
        """The path of the file."""
        return self._paths[index]


def _end(path: Path, size: int) -> bytes:
    """A file's last bytes: a PNG's hold a checksum of all pixels, a JPEG's move with all before them."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - END))
            return file.read(END)
    except OSError:
        return b""  # said when the image is read


def _entries(root: Path) -> tuple[list[Path], list[tuple[Path, int]]]:
    """Sub-folders and images of a folder, both sorted, hidden ones left out."""
    folders, images = [], []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                images.append((Path(entry.path), entry.stat().st_size))
    return sorted(folders), sorted(images)


def _images(folder: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, int]]:
    """All images below a folder. A link back to a folder above is not followed twice."""
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    folders, images = _entries(folder)
    yield from images
    for deeper in folders:
        yield from _images(deeper, seen)
