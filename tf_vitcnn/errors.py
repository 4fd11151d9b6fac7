"""The one exception that speaks to a user."""

import difflib
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable


class BadInput(ValueError):
    """A request that cannot be met: one line that names the thing, what was expected and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line alone, in its own terms."""
        return [f"{type(self).__name__}: {keywords(first_line(self))}"]


# What the readers of NumPy, zip, JSON and TOML raise for a damaged file. NumPy parses an array's header as a Python
# literal and lets the parser's own errors through. ValueError has UnicodeDecodeError and JSON's error in it.
UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, RuntimeError),
    *(SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error),
)


def unknown(kind: str, name: str, choices: Iterable[str]) -> BadInput:
    """The error for a name outside a closed set: nearest names first, then the whole set if it is short."""
    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=5, cutoff=0.5)
    shown = choices if len(choices) <= 30 else near or choices[:10]
    more = "" if len(shown) == len(choices) else f", ... ({len(choices)} in all)"
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return BadInput(f"unknown {kind} {name!r}{hint}; available: {', '.join(shown)}{more}")


def first_line(error: BaseException) -> str:
    """An exception as one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def keywords(said: str) -> str:
    """Flags as Python's keywords: `--image-size 32` is `image_size=32`."""

    def keyword(flag: re.Match[str]) -> str:
        return flag[1].replace("-", "_") + (f"={flag[2]}" if flag[2] else "")

    return re.sub(r"(?<![\w-])--([a-z][a-z0-9-]*)(?: (\d[\w.]*)(?![\w.]))?", keyword, said)


class Unanswerable(Exception):
    """What a claim raises when the tables it is given cannot say: the only exception that makes it untested."""


class MissingLayer(Unanswerable):
    """A table does not hold a layer that the claim speaks of."""


class TooLarge(BadInput):
    """A request that needs more memory than is allowed; `fits` is the largest minibatch that does not, 0 for none."""

    def __init__(self, said: str, fits: int) -> None:
        super().__init__(said)
        self.fits = fits
