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
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from tf_vitcnn.errors import first_line
from tf_vitcnn.verdicts.evidence import (
    CLS_VIT,
    GAP_VIT,
    MIXER,
    RESNET,
    VIT,
    Need,
    Result,
    Where,
    absent,
    flat,
    same_architecture,
    together,
)

__all__ = [
    "CLS_VIT",
    "GAP_VIT",
    "MIXER",
    "RESNET",
    "VIT",
    "Check",
    "Claim",
    "Need",
    "Outcome",
    "Result",
    "Untested",
    "Verdict",
    "Where",
    "above",
    "absent",
    "below",
    "between",
    "claim",
    "same_architecture",
    "together",
]

COLUMNS = ("claim", "place", "verdict", "value", "threshold", "baseline", "subjects", "tables", "note")
FIGURE = re.compile(r"\b(?:[A-H]\.)?\d+\b")


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

    @property
    def bounds(self) -> float | str:
        """The threshold; both ends of `in`, e.g. `0.25..0.7`."""
        return f"{self.threshold:.6g}..{self.high:.6g}" if self.relation == "in" else self.threshold


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
        """One verdict for each combination of tables that fits; a single untested one if none does.

        Tables with a tag are variants of a run: they speak only where the plain tables of the same subjects do not.
        """
        found = list(self._combinations(results, random=False))
        if not found:
            return [Verdict(self, note=self._missing(results))]
        baselines = list(self._combinations(results, random=True))
        verdicts = [(self._verdict(chosen, baselines), _tagged(chosen)) for chosen in found]
        settled = {verdict.subjects for verdict, tagged in verdicts if verdict.checks and not tagged}
        return [verdict for verdict, tagged in verdicts if not tagged or verdict.subjects not in settled]

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
        lacking = list(dict.fromkeys(_describe(need) for need in self.needs if not need.find(results)))
        return f"needs {' and '.join(lacking)}" if lacking else "no combination of the tables here fits the claim"


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
            "threshold": self.checks[i].bounds if self.checks else None,
            "baseline": self.baseline[i].value if i < len(self.baseline) else None,
            "subjects": " ".join(self.subjects),
            "tables": " ".join(self.tables),
            "note": self.note,  # why it is untested
        }


def order(place: str) -> tuple[int, str, int]:
    """Sorting key of `Fig. 3`, `11 left`, `C.5`: the numbered figures, then the appendix' figures, then its text."""
    found = FIGURE.search(place)
    if found is None:
        return (2, place, 0)
    letter, _, number = found[0].rpartition(".")
    return (1, letter, int(number)) if letter else (0, "", int(number))


def judge(results: Sequence[Result], claims: Iterable[Claim]) -> list[Verdict]:
    """The verdicts on all claims, in the order of the claims."""
    return [verdict for claim in claims for verdict in claim.verdicts(results)]


def to_csv(verdicts: Iterable[Verdict]) -> str:
    """The text of claims.csv."""
    rows = [verdict.row() for verdict in verdicts]
    # pandas formats no numbers that stand among texts
    rows = [row | {"threshold": f"{t:.6g}" if isinstance(t := row["threshold"], float) else t} for row in rows]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _tagged(chosen: tuple) -> bool:
    return any(r.sidecar.get("tag") for r in flat(chosen))


def _same_architectures(trained: tuple, random: tuple) -> bool:
    a, b = ([s for r in flat(side) for s in r.sidecar["subjects"]] for side in (trained, random))
    return len(a) == len(b) and all(same_architecture(x, y) for x, y in zip(a, b, strict=True))


def _describe(need: Need) -> str:
    def who(where: Where) -> str:
        said = [_word(name, value) for name, value in where.items() if value is not absent]
        return " ".join(said) or "any model"

    return f"{need.analysis} of {who(need.subject)}" + (f" against {who(need.against)}" if need.against else "")


def _word(name: str, value: Any) -> str:
    if callable(value):
        return f"with {name}"
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
