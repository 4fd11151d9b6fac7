"""Evidence: the tables that are there, which of them a claim may read, and whether they agree.

Tables of one combination must have seen the same images (source, count, draw) with the same settings; what differs is
named, and the claim is untested on them. Only what a claim varies on purpose, or does not read (`Need.free`), may
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from tf_vitcnn.errors import MissingLayer
from tf_vitcnn.tables.schema import Sidecar
from tf_vitcnn.verdicts.cause import same_architecture
from tf_vitcnn.verdicts.structure import Structure, family, structure_of

Where = Mapping[str, Any]  # sidecar field -> value, tuple of alternatives, or predicate
# which layers are there is asked of the table itself; these choose rows, or how a map is cut
FREE = ("taps", "against_taps", "pairs", "all_pairs", "biased", "cell")


def absent(value: Any) -> bool:
    """Whether a field is empty: None, or a list without entries."""
    return not value


# Who a claim speaks of, by structure. `no_skip`: models whose skips were cut are subjects of their own claims only.
VIT: Where = {"family": "vit", "no_skip": absent}
CLS_VIT: Where = {**VIT, "pool": "cls"}
GAP_VIT: Where = {**VIT, "pool": "gap"}
RESNET: Where = {"family": "resnet", "no_skip": absent}
MIXER: Where = {"family": "mixer", "no_skip": absent}


@dataclass(frozen=True, eq=False)
class Result:
    """A table, the sidecar that says what made it, and how its values change without each group of images."""

    table: pd.DataFrame
    sidecar: Sidecar
    path: str = ""
    groups: Mapping[str, Any] | None = None
    pictures: Mapping[str, bytes] | None = None  # of the images themselves, for charts
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, table: pd.DataFrame, path: str = "") -> Result:
        """A table as `read_table` gives it."""
        bare = table.copy(deep=False)
        bare.attrs = {}  # pandas copies them with every frame
        return cls(bare, table.attrs["sidecar"], path, table.attrs.get("groups"), table.attrs.get("pictures"))

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What follows from the table's keys and sidecar: made once for the table and all that it is moved to."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

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
    def structure(self) -> Structure:
        """What the first subject is made of."""
        return self.once("structure", lambda: structure_of(self.subject))

    @property
    def layers(self) -> pd.DataFrame:
        """`layer` and `depth` of the table's layers, in depth order (tables with these columns)."""
        return self.once(
            "layers",
            lambda: self.table[["layer", "depth"]].drop_duplicates().sort_values("depth", ignore_index=True),
        )

    def require(self, layers: Sequence[str], column: str = "layer") -> list[str]:
        """The layers, all of them in the table."""
        there = self.once(("there", column), lambda: set(self.table[column]) if column in self.table else set())
        missing = [layer for layer in layers if layer not in there]
        if missing or not layers:
            who = self.sidecar["subjects"][-1 if column.endswith("_y") else 0]["name"]
            what = f"{len(missing)} of the {len(layers)} layers that it speaks of, {missing[0]} first" if layers else ""
            raise MissingLayer(f"{self.path or who} lacks {what or 'every layer that it speaks of'}")
        return list(layers)

    def swapped(self) -> Result | None:
        """The same comparison seen from the second subject; None for a table that has no mirror image."""
        if "layer_y" not in self.table or "layer_x" not in self.table:
            return None
        turn: dict[Hashable, str] = {
            c: c[:-1] + ("y" if c.endswith("_x") else "x") for c in map(str, self.table) if c.endswith(("_x", "_y"))
        }
        subjects = self.sidecar["subjects"][::-1]
        sidecar = {**self.sidecar, "subjects": subjects}
        return replace(self, table=self.table.rename(columns=turn), sidecar=sidecar, memo={})


def parts(result: Result) -> list[Result]:
    """A table of `--all-pairs` as three: the comparison, and each model's own pairs; any other table as it is.

    The models' own speak as variants of their plain tables do: only where these are not there.
    """
    names = [s["name"] for s in result.sidecar["subjects"]]
    if len(names) < 2 or not {"model_x", "model_y"} <= set(result.table):
        return [result]
    pairs = result.table[["model_x", "model_y"]].drop_duplicates()
    if len(pairs) == 1 or not pairs.isin(names).all(axis=None):
        return [result]
    return [_part(result, x, y) for x, y in pairs.itertuples(index=False)]


def _part(result: Result, x: str, y: str) -> Result:
    rows = np.flatnonzero((result.table.model_x == x) & (result.table.model_y == y))
    named = {s["name"]: s for s in result.sidecar["subjects"]}
    own = {"subjects": [named[x]], "tag": result.sidecar.get("tag") or "all-pairs"}
    groups = {column: change[:, rows] for column, change in (result.groups or {}).items()}
    return replace(
        result,
        table=result.table.iloc[rows].reset_index(drop=True),
        sidecar={**result.sidecar, **(own if x == y else {"subjects": [named[x], named[y]]})},
        groups=groups if result.groups is not None else None,
        memo={},
    )


@dataclass(frozen=True)
class Need:
    """A table that a claim reads: its analysis, and what must be recorded of its subjects and parameters.

    `against`: of the second subject; None: the table must have only one. `many`: all tables that fit at once, as a
    list, split into one list per `group`. `keep` looks at a table's whole record (both subjects together). `free`:
    parameters that the claim's numbers do not depend on.
    """

    analysis: str
    subject: Where = field(default_factory=dict)
    against: Where | None = None
    parameters: Where = field(default_factory=dict)
    many: bool = False
    group: Callable[[Result], Hashable] = lambda result: None
    keep: Callable[[Result], bool] = lambda result: True
    free: tuple[str, ...] = ()
    words: str = ""  # what `keep` asks for

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

    def settings(self, result: Result) -> dict[str, Any]:
        """What the numbers of a table depend on, beside the images."""
        free = {*FREE, *self.free, *self.parameters, "images", "seed", "test"}
        return {k: v for k, v in result.parameters.items() if k not in free}

    def described(self) -> str:
        """`cka of vit against resnet`."""

        def who(where: Where) -> str:
            said = [_word(name, value) for name, value in where.items() if value is not absent]
            return " ".join(said) or "any model"

        against = f" against {who(self.against)}" if self.against is not None else ""
        return f"{self.analysis} of {who(self.subject)}{against}{', ' if self.words else ''}{self.words}"


@dataclass(frozen=True)
class _Source:
    """Where images come from: the same if their fingerprints are, whatever the folder is called."""

    fingerprint: str | None
    spec: str | None = field(compare=False)

    def __str__(self) -> str:
        return f"{self.spec} ({self.fingerprint})"


def seen(result: Result) -> dict[str, Any]:
    """The images of a table: which, how many, in which draw."""
    data, parameters = result.sidecar.get("data") or {}, result.parameters
    found = {
        "image source": _Source(data.get("fingerprint") or data.get("spec"), data.get("spec")),
        "images": parameters.get("images", data.get("images")),
        "seed": parameters.get("seed"),
        "left-out images": data.get("skipped") or None,
    }
    return found | ({"test images": _Source(data["test"], parameters.get("test"))} if data.get("test") else {})


def disagreement(needs: Sequence[Need], chosen: Sequence[Any], varies: Sequence[str] = ()) -> str:
    """The first thing in which the tables of a combination differ and should not; empty if they agree."""
    pairs = [(need, result) for need, item in zip(needs, chosen, strict=True) for result in flat([item])]
    facts = [(r.path or r.subject["name"], seen(r) | need.settings(r)) for need, r in pairs]
    names = [name for name in dict.fromkeys(key for _, each in facts for key in each) if name not in varies]
    for name in names:
        # a table of an older version does not have a parameter that came later
        values = [(path, each[name]) for path, each in facts if name in each]
        odd = next((i for i, (_, value) in enumerate(values) if value != values[0][1]), None)
        if odd is not None:
            return f"{name} differ: " + ", ".join(f"{value} in {path}" for path, value in (values[0], values[odd]))
    return ""


def same_architectures(trained: Sequence[Any], random: Sequence[Any]) -> bool:
    """Whether each of a claim's tables has its counterpart of the same architectures.

    Of the tables of a list there may be more or fewer with random weights.
    """
    return all(
        all(any(_alike(a, b) for b in flat([theirs])) for a in flat([ours]))
        and all(any(_alike(a, b) for a in flat([ours])) for b in flat([theirs]))
        for ours, theirs in zip(trained, random, strict=True)
    )


def _alike(a: Result, b: Result) -> bool:
    return all(map(same_architecture, a.sidecar["subjects"], b.sidecar["subjects"]))


def flat(results: Any) -> Iterable[Result]:
    """The results of a combination, lists opened."""
    for item in results if isinstance(results, list | tuple) else (results,):
        yield from flat(item) if isinstance(item, list | tuple) else (item,)


def _matches(record: Mapping[str, Any], where: Where) -> bool:
    return all(_is(family(record) if name == "family" else record.get(name), wanted) for name, wanted in where.items())


def _is(value: Any, wanted: Any) -> bool:
    if callable(wanted):
        return bool(wanted(value))
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def _both_ways(result: Result, against: Where | None) -> Iterable[Result]:
    yield result
    turned = result.swapped() if against is not None and len(result.sidecar["subjects"]) == 2 else None
    if turned is not None:
        yield turned


def _word(name: str, value: Any) -> str:
    if callable(value):
        return f"with {name}"
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
