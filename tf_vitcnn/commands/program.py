"""`tf-vitcnn COMMAND ...`, and the same commands as scripts of a clone.

A command is a module of this folder with `main(args, prog)`; its docstring's first line is its line of help.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path

from tf_vitcnn.commands.edge import guard
from tf_vitcnn.errors import BadInput, unknown

COMMANDS = ("demo", "analyze", "report", "catalog", "train", "verify", "replicate")  # in the order of first use


def main() -> None:
    """The command that the first argument names."""
    guard(lambda: run(sys.argv[1:]))


def script(name: str) -> None:
    """One command as a script: the same flags, the same outputs."""
    guard(lambda: _command(name, sys.argv[1:], f"{name}.py"))


def run(args: list[str]) -> int | None:
    """Runs the command, or says which there are."""
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = args
    if name == "--version":
        from tf_vitcnn import __version__

        print(__version__)
        return 0
    if name.startswith("-"):
        raise BadInput(f"name a command first: {', '.join(COMMANDS)}")
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    return _command(name, rest, f"tf-vitcnn {name}")


def usage() -> str:
    """One screen: every command in a line."""
    lines = ["usage: tf-vitcnn COMMAND [flags]", "", "How does this network see?", ""]
    lines += [f"  {name:<10} {summary(name)}" for name in COMMANDS]
    return "\n".join([*lines, "", "tf-vitcnn COMMAND --help shows an example and every flag."])


def summary(name: str) -> str:
    """The first line of a command's docstring, read without importing it."""
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def _command(name: str, args: list[str], prog: str) -> int | None:
    return importlib.import_module(f"tf_vitcnn.commands.{name}").main(args, prog)
