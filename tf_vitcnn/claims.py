"""Claim -> Verdict: a sentence of the paper as data, tested on whatever tables are there.

A claim says which tables it needs, by what their sidecars record, and how a pure function turns them into numbers
with thresholds. An analysis lists its claims beside its chart:

    @claim("skip-stronger-in-vit", "Fig. 7", "Mean ratio over layers is larger in the ViT than in the ResNet.",
           Need("skip_ratio", VIT), Need("skip_ratio", RESNET))
    def skip_stronger_in_vit(vit: Result, resnet: Result) -> Outcome:
        spatial = vit.table.query("token == 'mean'").ratio
        return above(spatial.mean(), resnet.table.ratio.mean())

    class SkipRatio(PerImage):
        claims = (skip_stronger_in_vit,)

The function gets one Result per Need, in order (a list of them where the Need says `many`), and returns `above`,
`below` or `between` (each with the threshold, and the standard error where the table has one), a list of these when
all must hold, or `Untested("why")`. Every combination of tables that fits gets its own verdict. Tables of networks
with random weights are never tested: the same function on the tables of the same architectures with random weights
is the baseline, what the architecture gives for free.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from tf_vitcnn.table import Sidecar, first_line

COLUMNS = ("claim", "place", "verdict", "value", "threshold", "baseline", "subjects", "tables")
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


@dataclass(frozen=True)
class Check:
    """One number against its threshold."""

    value: float
    relation: Literal[">", "<", "in"]
    threshold: float
    high: float = math.nan  # the upper end of `in`
    se: float | None = None
    what: str = ""

    @property
    def holds(self) -> bool:
        """Whether the number is on the claim's side of its threshold."""
        if self.relation == "in":
            return self.threshold < self.value < self.high
        return self.value > self.threshold if self.relation == ">" else self.value < self.threshold


def above(value: float, threshold: float, se: float | None = None, what: str = "") -> Check:
    """The claim holds if the value is larger; `what` names the number when there are several."""
    return Check(float(value), ">", float(threshold), se=se, what=what)


def below(value: float, threshold: float, se: float | None = None, what: str = "") -> Check:
    """The claim holds if the value is smaller."""
    return Check(float(value), "<", float(threshold), se=se, what=what)


def between(value: float, low: float, high: float, se: float | None = None, what: str = "") -> Check:
    """The claim holds if the value lies inside."""
    return Check(float(value), "in", float(low), float(high), se=se, what=what)


@dataclass(frozen=True)
class Untested:
    """Why the tables that are there cannot decide."""

    reason: str


Outcome = Check | list[Check] | Untested


def together(*results: Any) -> bool:
    """Whether tables may be compared at all: they saw the same images' source."""
    return len({r.sidecar.get("data", {}).get("spec") for r in flat(results)}) == 1


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the tables it needs, and the function that measures it."""

    id: str
    place: str
    statement: str
    needs: tuple[Need, ...]
    measure: Callable[..., Outcome]
    pair: Callable[..., bool] = together  # which combinations of tables belong together
    remark: str = ""  # what a reader of the verdict should know, e.g. an exception the paper itself shows

    def __call__(self, *results: Any) -> Outcome:
        """The measurement itself, on given tables."""
        return self.measure(*results)

    def verdicts(self, results: Sequence[Result]) -> list[Verdict]:
        """One verdict for each combination of tables that fits; a single untested one if none does."""
        found = list(self._combinations(results, random=False))
        if not found:
            return [Verdict(self, note=self._missing(results))]
        baselines = list(self._combinations(results, random=True))
        return [self._verdict(chosen, baselines) for chosen in found]

    def _combinations(self, results: Sequence[Result], random: bool) -> Iterable[tuple]:
        for chosen in itertools.product(*(need.find(results, random) for need in self.needs)):
            if together(*chosen) and self.pair(*chosen):
                yield chosen

    def _verdict(self, chosen: tuple, baselines: Sequence[tuple]) -> Verdict:
        tables = list(dict.fromkeys(r.path for r in flat(chosen)))
        subjects = list(dict.fromkeys(s["name"] for r in flat(chosen) for s in r.sidecar["subjects"]))
        checks, note = self._measured(chosen)
        verdict = Verdict(self, checks, subjects=tuple(subjects), tables=tuple(tables), note=note)
        for random in baselines:
            if checks and _same_architectures(chosen, random):
                return replace(verdict, baseline=self._measured(random)[0])
        return verdict

    def _measured(self, chosen: tuple) -> tuple[tuple[Check, ...], str]:
        try:
            outcome = self.measure(*chosen)
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            # a foreign table may lack the layers or rows that the statistic speaks of
            return (), f"cannot be measured on these tables: {first_line(error)}"
        if isinstance(outcome, Untested):
            return (), outcome.reason
        checks = tuple(outcome) if isinstance(outcome, list) else (outcome,)
        if not checks or any(math.isnan(c.value) or math.isnan(c.threshold) for c in checks):
            return (), "the tables have no value for it"
        return checks, ""

    def _missing(self, results: Sequence[Result]) -> str:
        lacking = [_describe(need) for need in self.needs if not need.find(results)]
        return f"needs {' and '.join(lacking)}" if lacking else "the tables do not belong together"


def claim(
    id: str, place: str, statement: str, *needs: Need, pair: Callable[..., bool] = together, remark: str = ""
) -> Callable[[Callable[..., Outcome]], Claim]:
    """Turns the function that measures into the Claim."""
    return lambda measure: Claim(id, place, statement, needs, measure, pair, remark)


@dataclass(frozen=True)
class Verdict:
    """What a claim came to on one combination of tables."""

    claim: Claim
    checks: tuple[Check, ...] = ()
    baseline: tuple[Check, ...] = ()
    subjects: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    note: str = ""

    @property
    def word(self) -> Literal["holds", "fails", "untested"]:
        """The verdict itself."""
        if not self.checks:
            return "untested"
        return "holds" if all(check.holds for check in self.checks) else "fails"

    @property
    def deciding(self) -> int:
        """Which number stands for the verdict: the first that fails, else the first."""
        return next((i for i, check in enumerate(self.checks) if not check.holds), 0)

    def row(self) -> dict[str, Any]:
        """Its line of claims.csv."""
        i = self.deciding
        return {
            "claim": self.claim.id,
            "place": self.claim.place,
            "verdict": self.word,
            "value": self.checks[i].value if self.checks else None,
            "threshold": self.checks[i].threshold if self.checks else None,
            "baseline": self.baseline[i].value if i < len(self.baseline) else None,
            "subjects": " ".join(self.subjects),
            "tables": " ".join(self.tables),
        }


def all_claims() -> list[Claim]:
    """Every claim of every analysis."""
    from tf_vitcnn import analyses

    return [claim for name in analyses.names() for claim in analyses.find(name).claims]


def judge(results: Sequence[Result], claims: Iterable[Claim] | None = None) -> list[Verdict]:
    """The verdicts on all claims, in the order of the claims."""
    return [verdict for claim in (all_claims() if claims is None else claims) for verdict in claim.verdicts(results)]


def to_csv(verdicts: Iterable[Verdict]) -> str:
    """The text of claims.csv."""
    frame = pd.DataFrame([verdict.row() for verdict in verdicts], columns=list(COLUMNS))
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


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


def _same_architectures(trained: tuple, random: tuple) -> bool:
    a, b = ([s for r in flat(side) for s in r.sidecar["subjects"]] for side in (trained, random))
    return len(a) == len(b) and all(same_architecture(x, y) for x, y in zip(a, b, strict=True))


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


def _describe(need: Need) -> str:
    def who(where: Where) -> str:
        said = [_word(name, value) for name, value in where.items() if value is not absent]
        return " ".join(said) or "any model"

    return f"{need.analysis} of {who(need.subject)}" + (f" against {who(need.against)}" if need.against else "")


def _word(name: str, value: Any) -> str:
    if callable(value):
        return f"with {name}"
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
