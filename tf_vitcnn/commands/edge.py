"""The edge that scripts share: a refused request is one line on stderr and exit status 2, never a traceback."""

import contextlib
import functools
import io
import sys
from collections.abc import Callable
from typing import Any

from tf_vitcnn.errors import BadInput


def guard(function: Callable[[], int | None]) -> None:
    """Runs `function` and exits with its status; a refused request is one line and exit status 2."""
    try:
        status = function()
    except BadInput as refused:
        fail(" ".join(str(refused).split()))
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)


def call(function: Callable[..., int | None], args: list[str], prog: str, description: str | None) -> int | None:
    """Runs `function` on flags typed by its signature."""
    given: dict[str, Any] = {}

    @functools.wraps(function)
    def keep(**flags: Any) -> None:
        given.update(flags)

    parse(keep, args, prog, description)
    return function(**given)


def parse(kind: Any, args: list[str], prog: str, description: str | None = None) -> Any:
    """`args` as an instance of `kind` (a dataclass or a function), or one line and exit status 2."""
    import tyro

    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
            return tyro.cli(kind, args=args, prog=prog, description=description, config=config)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_gist(shown.getvalue()) + f"; see {prog} --help")
    raise AssertionError("unreachable")


def fail(line: str) -> None:
    """One line on stderr, exit status 2."""
    print(line, file=sys.stderr)
    sys.exit(2)


def _gist(boxed: str) -> str:
    """The words of tyro's framed message, without its frame and its advice."""
    words = []
    for line in boxed.splitlines():
        text = line.strip("│╭╮╰╯─ \t")
        if text and not text.startswith(("For full helptext", "Parsing error", "in ")):
            words.append(text)
    return " ".join(words)[:600] or "the arguments do not fit"
