"""Files that are whole: a reader sees the old one or the new one, whenever the process ends and however full the disk.

Everything of ours is written here. What a killed process was writing stays beside its name as a `.part`; the next run
of the same output removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil
from etils import epath

from tf_vitcnn.errors import BadInput, first_line

Paths = str | os.PathLike


def cache() -> Path:
    """The folder of what is fetched or read once: $TF_VITCNN_CACHE, else ~/.cache/tf_vitcnn."""
    return Path(os.environ.get("TF_VITCNN_CACHE") or Path.home() / ".cache" / "tf_vitcnn").expanduser()


@contextlib.contextmanager
def replacing(path: Paths) -> Iterator[epath.Path]:
    """A path to write to, renamed to `path` when the block ends; a full disk is one line."""
    target = epath.Path(path)
    part = _part(target)
    with _whole({target: part}, target):
        yield part


def write(contents: Mapping[Paths, bytes], outdated: Iterable[Paths] = ()) -> None:
    """Files that belong together, in this order, whole or not at all: the last one says that all are there.

    The last file and the `outdated` ones go before the first new one comes: old and new never stand together.
    """
    files = {epath.Path(path): data for path, data in contents.items()}
    parts = {path: _part(path) for path in files}
    last = list(files)[-1]
    gone = [epath.Path(path) for path in outdated]
    # one file alone is replaced in one step: there is always the old one or the new one
    with _whole(parts, last, [*gone, last] if len(files) > 1 else gone):
        for path, data in files.items():
            parts[path].write_bytes(data)


def write_text(path: Paths, text: str) -> None:
    """The text as a file, whole or not at all."""
    write({path: text.encode()})


def discard_parts(*paths: Paths) -> None:
    """Removes what killed processes left of files; only their one writer may ask for it."""
    for path in map(epath.Path, paths):
        ours = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.part{re.escape(path.suffix)}")
        # listed, not globbed: names hold brackets
        for part in path.parent.iterdir() if path.parent.is_dir() else ():
            written = ours.fullmatch(part.name)
            if written and not _lives(int(written[1])):
                part.unlink(missing_ok=True)


def _part(path: epath.Path) -> epath.Path:
    return path.parent / f".{path.stem}.{os.getpid()}.part{path.suffix}"  # writers choose a format by the suffix


@contextlib.contextmanager
def _whole(parts: Mapping[epath.Path, epath.Path], named: epath.Path, outdated: Iterable[epath.Path] = ()) -> Iterator:
    """Parts that become their files, in order, once the block has written all; `named` is what a refusal speaks of."""
    try:
        # an output directory that was removed meanwhile is made again: hours of work go into it
        named.parent.mkdir(parents=True, exist_ok=True)
        yield
        for part in parts.values():
            _to_disk(part)  # a name must not reach the disk before its bytes
        for path in outdated:
            path.unlink(missing_ok=True)
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise BadInput(f"{named}: cannot be written: {error.strerror or first_line(error)}") from error
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _to_disk(part: epath.Path) -> None:
    if "://" in str(part):  # an object of a store is whole when its upload ends
        return
    with open(part, "rb") as written:  # noqa: PTH123 (a descriptor, which epath does not promise)
        os.fsync(written.fileno())


def _lives(process: int) -> bool:
    # our own number was another's before: nobody discards what he writes
    return process != os.getpid() and process < 2**31 and psutil.pid_exists(process)
