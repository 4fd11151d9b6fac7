"""How a table was made: one line, the command that makes it again, and the record behind both."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tf_vitcnn.report.model import Figure
from tf_vitcnn.verdicts.evidence import Result

_FIRST = ("images", "batch", "seed", "taps")
_LONG = 300  # characters of a value that are shown


@dataclass(frozen=True)
class Made:
    """One table's provenance."""

    path: str
    command: str
    facts: tuple[tuple[str, str], ...]


def made(figure: Figure) -> list[Made]:
    """The provenance of each of a figure's tables."""
    # a table beside another is made by the other's analysis
    return [Made(r.path, command({**r.sidecar, "analysis": figure.analysis}), tuple(_facts(r))) for r in figure.results]


def in_one_line(figure: Figure) -> str:
    """What all tables of a figure have in common: `2048 images of digits:test, batch 256, seed 0; 3 tables`."""
    results = figure.results
    shared = [_said(r) for r in results]
    common = [part for part in shared[0] if all(part in other for other in shared)]
    tables = "1 table" if len(results) == 1 else f"{len(results)} tables"
    return f"{', '.join(common)}; {tables}" if common else tables


def command(sidecar: Mapping[str, Any]) -> str:
    """The command line that makes the table again."""
    subjects = sidecar["subjects"]
    parts = ["tf-vitcnn", "analyze", str(sidecar["analysis"]), "--model", _spec(subjects[0])]
    if len(subjects) > 1:
        parts += ["--against", _spec(subjects[1])]
    parts += ["--data", str(sidecar["data"].get("spec"))]
    for name, value in _ordered(sidecar.get("parameters", {})):
        parts += _flag(name, value)
    parts += ["--name", str(subjects[0]["name"])]
    if len(subjects) > 1:
        parts += ["--against-name", str(subjects[1]["name"])]
    if sidecar.get("tag"):
        parts += ["--tag", str(sidecar["tag"])]
    return shlex.join(parts)


def network_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a sidecar records of a network, lists of names left out."""
    hidden = ("name", "taps", "class_names")
    return [(k, short(v)) for k, v in record.items() if k not in hidden and v not in (None, [], {}, "")]


def short(value: Any) -> str:
    """A value as text, cut where it is long."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k} {short(v)}" for k, v in value.items())
    text = ", ".join(map(short, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _said(result: Result) -> list[str]:
    parameters = result.parameters
    said = [f"{result.sidecar['data'].get('images', parameters.get('images'))} images of {_data(result)}"]
    return said + [
        f"{k} {short(v)}" for k, v in _ordered(parameters) if k != "images" and v not in (None, [], "", False)
    ]


def _data(result: Result) -> str:
    return str(result.sidecar["data"].get("spec"))


def _spec(subject: Mapping[str, Any]) -> str:
    return str(subject.get("spec") or subject["name"])


def _ordered(parameters: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The run's own settings first, then the analysis'."""
    yield from ((name, parameters[name]) for name in _FIRST if name in parameters)
    yield from ((name, value) for name, value in parameters.items() if name not in _FIRST)


def _flag(name: str, value: Any) -> list[str]:
    if value in (None, "", []):
        return []
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag] if value else []
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]


def _facts(result: Result) -> Iterable[tuple[str, str]]:
    for part in ("parameters", "data", "notes", "environment"):
        if result.sidecar.get(part):
            yield part, short(result.sidecar[part])
