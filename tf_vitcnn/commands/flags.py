"""Flags from dataclasses: a field is a flag, the text under it its help, the class that declares it its group.

A class' docstring is the group's title. Types: text, paths, numbers, bool, Literal, any of them or None, and tuples of
them (several values after one flag). What does not fit is refused in one line that names the flag and what it takes.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import shutil
import sys
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from tf_vitcnn.errors import BadInput, unknown

WORDS = {int: "a whole number", float: "a number", str: "text", Path: "a path", bool: "true or false"}
PLACE = {"positional": True}  # metadata of a field that is given by its place; {"word": ...} is another flag's name
COLUMN = 24  # where help begins
MISSING = dataclasses.MISSING


@dataclass(frozen=True)
class Flag:
    """A field as the command line knows it."""

    name: str
    word: str  # as it is typed
    kind: Any
    default: Any
    help: str
    group: str

    @property
    def positional(self) -> bool:
        """Whether it is given by its place."""
        return not self.word.startswith("-")

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    @property
    def several(self) -> bool:
        """Whether it takes any number of values."""
        return any(get_origin(part) is tuple for part in _parts(self.kind))


@dataclass(frozen=True)
class Page:
    """What help says around the flags."""

    prog: str
    about: str
    example: str


def parse(kinds: Sequence[type], args: Sequence[str], page: Page) -> list[Any]:
    """An instance of each dataclass; a flag that several have goes to all of them. Help ends the process."""
    flags = list(_merged(kinds))
    if {"-h", "--help"} & set(args):
        print(help_text(flags, page))
        sys.exit(0)
    try:
        given = _given(flags, args)
        lacking = [flag.word for flag in flags if flag.required and flag.name not in given]
        if lacking:
            raise BadInput(f"{' and '.join(lacking)} must be given")
    except BadInput as refused:
        raise BadInput(f"{refused}; see {page.prog} --help") from refused
    names = [{flag.name for flag in flags_of(kind)} for kind in kinds]
    return [
        kind(**{name: given[name] for name in own if name in given}) for kind, own in zip(kinds, names, strict=True)
    ]


def parse_one(kind: type, args: Sequence[str], page: Page) -> Any:
    """The one dataclass of a command that has no other."""
    return parse([kind], args, page)[0]


@cache
def flags_of(kind: Any) -> tuple[Flag, ...]:
    """Every field of a dataclass, in order."""
    found = []
    for field in dataclasses.fields(kind):
        owner = next(c for c in kind.__mro__ if field.name in vars(c).get("__annotations__", {}))
        meant = field.type
        if isinstance(meant, str):  # annotations are text until they are asked for
            meant = eval(meant, vars(sys.modules[owner.__module__]))
        plain = field.metadata.get("word", field.name).replace("_", "-")
        word = plain.upper() if field.metadata.get("positional") else f"--{plain}"
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found.append(Flag(field.name, word, meant, default, _texts(owner).get(field.name, ""), _title(owner)))
    return tuple(found)


def _title(owner: type) -> str:
    if isinstance(name := vars(owner).get("name"), str):
        return f"What {name} asks"
    return (inspect.getdoc(owner) or owner.__name__).splitlines()[0].rstrip(".")


def _texts(owner: type) -> dict[str, str]:
    """The text under each field of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            texts[field.target.id] = " ".join(after.value.value.split())
    return texts


def _merged(kinds: Sequence[type]) -> Iterator[Flag]:
    """Each flag once; one name for two kinds of values is refused. Where it is not given each keeps its own default."""
    seen: dict[str, Flag] = {}
    for flag in (flag for kind in kinds for flag in flags_of(kind)):
        known = seen.setdefault(flag.name, flag)
        if known.kind != flag.kind or known.required != flag.required:
            raise BadInput(f"{flag.word} means different things to what was named: run one at a time")
        if known.default != flag.default:
            seen[flag.name] = dataclasses.replace(known, default=None)  # help names none
    yield from seen.values()


# --- reading ---


def _given(flags: Sequence[Flag], args: Sequence[str]) -> dict[str, Any]:
    """Values by field name."""
    by_word = {flag.word: flag for flag in flags}
    places = [flag for flag in flags if flag.positional]
    given: dict[str, Any] = {}
    rest = list(args)
    while rest:
        head, equals, value = rest.pop(0).partition("=")
        if not head.startswith("-"):
            if not places:
                raise BadInput(f"unexpected {head + equals + value!r}: flags begin with --")
            flag = places.pop(0)
            given[flag.name] = _typed(flag, head + equals + value)
            continue
        word = head.replace("_", "-")
        if word not in by_word:
            raise unknown("flag", word, [flag.word for flag in flags if not flag.positional])
        flag = by_word[word]
        if flag.kind is bool:
            given[flag.name] = _typed(flag, value) if equals else True
        elif flag.several:
            values = [value] if equals else list(_taken(rest))
            given[flag.name] = given.get(flag.name, ()) + tuple(_typed(flag, v) for v in values)
        elif not equals and (not rest or rest[0].startswith("--")):
            raise BadInput(f"{word}: expected {takes(flag.kind)}")
        else:
            given[flag.name] = _typed(flag, value if equals else rest.pop(0))
    return given


def _taken(rest: list[str]) -> Iterator[str]:
    while rest and not rest[0].startswith("--"):
        yield rest.pop(0)


def _typed(flag: Flag, text: str) -> Any:
    for part in _parts(flag.kind):
        with contextlib.suppress(ValueError):
            return _as(part, text)
    raise BadInput(f"{flag.word}: {takes(flag.kind)}, not {text!r}")


def _as(kind: Any, text: str) -> Any:
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    closed = {str(choice): choice for choice in get_args(kind)} if get_origin(kind) is Literal else None
    if kind is bool:
        closed, text = {"true": True, "false": False}, text.lower()
    if closed is None:
        return kind(text)
    if text not in closed:
        raise ValueError(text)
    return closed[text]


def _parts(kind: Any) -> list[Any]:
    """What a type allows, None apart."""
    if get_origin(kind) in (Union, types.UnionType):
        return [part for part in get_args(kind) if part is not type(None)]
    return [kind]


def takes(kind: Any) -> str:
    """What a value may be, in words."""
    words = []
    for part in _parts(kind):
        if get_origin(part) is tuple:
            part = get_args(part)[0]
        choices = [str(choice) for choice in get_args(part)] if get_origin(part) is Literal else []
        words += choices or [WORDS[part]]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# --- help ---


def help_text(flags: Sequence[Flag], page: Page) -> str:
    """Usage, what the command does, an example, and the flags in their groups."""
    width = max(60, min(100, shutil.get_terminal_size().columns))
    needed = [flag.word + ("" if flag.positional else f" {_value(flag)}") for flag in flags if flag.required]
    lines = [*textwrap.wrap(" ".join(["usage:", page.prog, *needed, "[flags]"]), width), ""]
    for paragraph in page.about.split("\n\n"):
        lines += [*textwrap.wrap(" ".join(paragraph.split()), width), ""]
    lines += ["example:", f"  {page.example}"]
    for group in dict.fromkeys(flag.group for flag in flags):
        lines += ["", f"{group}:"]
        for flag in (flag for flag in flags if flag.group == group):
            lines += _line(flag, width)
    return "\n".join(lines)


def _line(flag: Flag, width: int) -> list[str]:
    left = f"  {flag.word}" + ("" if flag.positional or flag.kind is bool else f" {_value(flag)}")
    told = flag.help + ("" if flag.default in (MISSING, None, False, (), "") else f" ({flag.default})")
    told += " (required)" if flag.required else ""
    right = textwrap.wrap(told, width - COLUMN) or [""]
    if len(left) >= COLUMN:
        return [left, *(" " * COLUMN + text for text in right)]
    return [f"{left:<{COLUMN}}{right[0]}", *(" " * COLUMN + text for text in right[1:])]


def _value(flag: Flag) -> str:
    """What stands for the value: its choices, N or X for numbers, else the flag's own name."""
    shown = []
    for part in _parts(flag.kind):
        if get_origin(part) is tuple:
            part = get_args(part)[0]
        choices = [str(choice) for choice in get_args(part)] if get_origin(part) is Literal else []
        shown += choices or [{int: "N", float: "X", bool: "true|false"}.get(part, flag.name.rpartition("_")[2].upper())]
    return "|".join(shown) + (" ..." if flag.several else "")
