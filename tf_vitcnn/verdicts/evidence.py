"""Evidence: the tables that are there, and which of them a claim may read, by what their sidecars record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.tables.schema import Sidecar

Where = Mapping[str, Any]  # sidecar field -> value, tuple of alternatives, or predicate


def absent(value: Any) -> bool:
    """Whether a field is empty: None, or a list without entries."""
    return not value


# Who a claim speaks of. `no_skip`: models whose skips were cut are subjects of their own claims only.
VIT: Where = {"family": ("vit", "deit"), "no_skip": absent}
CLS_VIT: Where = {**VIT, "pool": "cls"}
GAP_VIT: Where = {**VIT, "pool": "gap"}
RESNET: Where = {"family": "bit", "no_skip": absent}
MIXER: Where = {"family": "mixer", "no_skip": absent}


@dataclass(frozen=True, eq=False)
class Result:
    """A table with the sidecar that says what made it."""

    table: pd.DataFrame
    sidecar: Sidecar
    path: str = ""

    @property
    def subject(self) -> dict[str, Any]:
        """The sidecar's record of the first subject."""
        return self.sidecar["subjects"][0]

    @property
    def other(self) -> dict[str, Any]:
        """The record of the second subject (`--against`)."""
        return self.sidecar["subjects"][1]

    @property
    def parameters(self) -> dict[str, Any]:
        """The analysis' parameters and the run's."""
        return self.sidecar.get("parameters", {})

    @property
    def layers(self) -> pd.DataFrame:
        """`layer` and `depth` of the table's layers, in depth order (tables with these columns)."""
        return self.table[["layer", "depth"]].drop_duplicates().sort_values("depth", ignore_index=True)

    def swapped(self) -> Result | None:
        """The same comparison seen from the second subject; None for a table that has no mirror image."""
        if "layer_y" not in self.table or "layer_x" not in self.table:
            return None
        turn: dict[Hashable, str] = {
            c: c[:-1] + ("y" if c.endswith("_x") else "x") for c in map(str, self.table) if c.endswith(("_x", "_y"))
        }
        subjects = self.sidecar["subjects"][::-1]
        return replace(self, table=self.table.rename(columns=turn), sidecar={**self.sidecar, "subjects": subjects})


@dataclass(frozen=True)
class Need:
    """A table that a claim reads: its analysis, and what must be recorded of its subjects and parameters.

    `against`: of the second subject; None: the table must have only one. `many`: all tables that fit at once, as a
    list, split into one list per `group`. `keep` looks at a table's whole record (both subjects together).
    """

    analysis: str
    subject: Where = field(default_factory=dict)
    against: Where | None = None
    parameters: Where = field(default_factory=dict)
    many: bool = False
    group: Callable[[Result], Hashable] = lambda result: None
    keep: Callable[[Result], bool] = lambda result: True

    def fits(self, result: Result, random: bool) -> bool:
        """Whether that table is one, of trained networks or of random ones."""
        subjects = result.sidecar["subjects"]
        wanted = [self.subject] if self.against is None else [self.subject, self.against]
        return (
            result.sidecar["analysis"] == self.analysis
            and len(subjects) == len(wanted)
            and all(_matches(s, w) and bool(s.get("random")) == random for s, w in zip(subjects, wanted, strict=True))
            and _matches(result.parameters, self.parameters)
            and self.keep(result)
        )

    def find(self, results: Iterable[Result], random: bool = False) -> list[Any]:
        """What may stand in its place: results, or lists of results."""
        found = [r for result in results for r in _both_ways(result, self.against) if self.fits(r, random)]
        if not self.many:
            return found
        groups: dict[Hashable, list[Result]] = {}
        for result in found:
            groups.setdefault(self.group(result), []).append(result)
        return list(groups.values())


def grid(layer: str, subject: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of positions of a ResNet's or ViT's layer, from its name and the model's record."""
    height, width = subject["image_size"]
    stage = taps.stage_of(layer)
    if stage is not None:  # stem and pooling halve twice, each later stage once more
        return -(-height // 2 ** (stage + 1)), -(-width // 2 ** (stage + 1))
    return height // subject["patch_size"], width // subject["patch_size"]


def together(*results: Any) -> bool:
    """Whether tables may be compared at all: they saw the same images' source."""
    return len({r.sidecar.get("data", {}).get("spec") for r in flat(results)}) == 1


def same_architecture(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two subjects' records differ at most in their weights and heads."""

    def shape(s: Mapping[str, Any]) -> tuple:
        taps = [tap for tap in s.get("taps") or () if not tap.startswith("head/")]
        return s.get("family"), s.get("pool"), s.get("no_skip") or [], s.get("patch_size"), s.get("depth"), taps

    # widths are in no tap's name: the catalog's name has them, else the count of parameters
    names = {str(s.get("spec", "")).split("@")[0] for s in (a, b)}
    alike = len(names) == 1 and not any(n.endswith((".keras", "vit", "bit", "mixer", "deit")) for n in names)
    return shape(a) == shape(b) and (alike or a.get("parameters") == b.get("parameters"))


def flat(results: Any) -> Iterable[Result]:
    """The results of a combination, lists opened."""
    for item in results if isinstance(results, list | tuple) else (results,):
        yield from flat(item) if isinstance(item, list | tuple) else (item,)


def _matches(record: Mapping[str, Any], where: Where) -> bool:
    return all(_is(record.get(name), wanted) for name, wanted in where.items())


def _is(value: Any, wanted: Any) -> bool:
    if callable(wanted):
        return bool(wanted(value))
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def _both_ways(result: Result, against: Where | None) -> Iterable[Result]:
    yield result
    turned = result.swapped() if against is not None and len(result.sidecar["subjects"]) == 2 else None
    if turned is not None:
        yield turned
