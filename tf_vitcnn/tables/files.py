"""Files that are whole: a reader sees the old one or the new one, whenever the process ends and however full the disk.

What a killed process was writing stays beside its name as a `.part`; the next run of the same output removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tf_vitcnn.errors import BadInput


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` when the block ends; a full disk is one line."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # writers choose a format by the suffix
    try:
        # an output directory that was removed meanwhile is made again: hours of work go into it
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())  # the name must not reach the disk before the bytes
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The text as a file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def discard_parts(path: Path) -> None:
    """Removes what killed processes left of `path`."""
    ours = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.part{re.escape(path.suffix)}")
    # listed, not globbed: names hold brackets
    for part in path.parent.iterdir() if path.parent.is_dir() else ():
        written = ours.fullmatch(part.name)
        if written and not _lives(int(written[1])):
            part.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    return True
