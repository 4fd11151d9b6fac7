"""What a claim came to on one combination of tables: its numbers, their margins' intervals, and a word.

The margin is by how much a number lies on the claim's side of its threshold (both may be statistics of tables): value -
threshold where the claim says larger, threshold - value where it says smaller, the distance to the nearer bound where
it says between. `low` and `high` are the 95 % interval of the margin over images, so zero decides:

    holds      the interval lies above zero         undecided  zero is inside, or no error is known
    fails      the interval lies below zero         untested   the tables cannot say; the note tells why

A margin without an error decides nothing: tables made before there were errors over images give `undecided`.
Of several checks the claim holds if all hold, fails if one fails, and is undecided otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

COLUMNS = (
    *("claim", "place", "verdict", "value", "threshold", "baseline", "subjects", "tables", "note"),
    *("low", "high", "baseline_value", "baseline_threshold", "baseline_verdict", "origin"),
)
WORDS = ("holds", "fails", "undecided", "untested")
Word = Literal["holds", "fails", "undecided", "untested"]
FIGURE = re.compile(r"\b(?:[A-H]\.)?\d+\b")
UNKNOWN = "no error known: a table without groups of images, made before there were errors over images"

UNCOUNTED = "no error known: the records do not say how many images the accuracies are of"
UNSTEADY = "no error known: without one of the groups of images the number cannot be measured"


@dataclass(frozen=True)
class Check:
    """One number against its threshold."""

    value: float
    relation: Literal[">", "<", "in"]
    threshold: float
    upper: float = math.nan  # the upper end of `in`
    what: str = ""
    own_se: float = 0.0  # an error of the margin that no table's groups know of (a card's accuracies); NaN: unknown
    low: float = math.nan  # the margin's interval; NaN: not known
    high: float = math.nan

    @property
    def margin(self) -> float:
        """By how much the number lies on the claim's side of its threshold."""
        if self.relation == "in":
            return min(self.value - self.threshold, self.upper - self.value)
        return self.value - self.threshold if self.relation == ">" else self.threshold - self.value

    @property
    def word(self) -> Word:
        """The verdict on this number alone."""
        return "holds" if self.low > 0 else "fails" if self.high < 0 else "undecided"

    @property
    def bounds(self) -> float | str:
        """The threshold; both ends of `in`, e.g. `0.25..0.7`."""
        return f"{self.threshold:.6g}..{self.upper:.6g}" if self.relation == "in" else self.threshold


def above(value: float, threshold: float, what: str = "", own_se: float = 0.0) -> Check:
    """The claim holds if the value is larger; `what` names the number when there are several."""
    return Check(float(value), ">", float(threshold), what=what, own_se=own_se)


def below(value: float, threshold: float, what: str = "", own_se: float = 0.0) -> Check:
    """The claim holds if the value is smaller."""
    return Check(float(value), "<", float(threshold), what=what, own_se=own_se)


def between(value: float, low: float, high: float, what: str = "", own_se: float = 0.0) -> Check:
    """The claim holds if the value lies inside."""
    return Check(float(value), "in", float(low), float(high), what=what, own_se=own_se)


@dataclass(frozen=True)
class Statement:
    """A sentence of the paper."""

    id: str
    place: str
    statement: str
    remark: str = ""  # what a reader of the verdict should know, e.g. an exception the paper itself shows
    again: bool = field(default=False, kw_only=True)  # another claim's sentence, asked of another measure


@dataclass(frozen=True)
class Verdict:
    """What a claim came to on one combination of tables; `baseline`: the same with random weights."""

    claim: Statement
    checks: tuple[Check, ...] = ()
    baseline: Verdict | None = None
    subjects: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    note: str = ""  # why it is untested, or what it lacks
    records: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)  # of the subjects

    @property
    def word(self) -> Word:
        """The verdict itself."""
        words = {check.word for check in self.checks}
        if not words:
            return "untested"
        return "fails" if "fails" in words else "undecided" if "undecided" in words else "holds"

    @property
    def deciding(self) -> Check | None:
        """The number that stands for the verdict: of those with its word the one with the smallest margin."""
        found = [check for check in self.checks if check.word == self.word]
        return min(found, key=lambda check: check.margin, default=None)

    @property
    def value(self) -> float | None:
        """The deciding number."""
        return self.deciding.value if self.deciding else None

    @property
    def threshold(self) -> float | str | None:
        """What it is held against; both ends where it must lie between."""
        return self.deciding.bounds if self.deciding else None

    @property
    def low(self) -> float | None:
        """The lower end of its margin's interval; None where no error is known."""
        return self.deciding.low if self.deciding and not math.isnan(self.deciding.low) else None

    @property
    def high(self) -> float | None:
        """The upper end."""
        return self.deciding.high if self.deciding and not math.isnan(self.deciding.high) else None

    @property
    def which(self) -> str:
        """What the deciding number is of, where there are several."""
        return self.deciding.what if self.deciding and len(self.checks) > 1 else ""

    @property
    def baseline_check(self) -> Check | None:
        """The same number with random weights; the one that decides there, where it has no counterpart."""
        if self.baseline is None or self.deciding is None:
            return None
        place = self.checks.index(self.deciding)
        return self.baseline.checks[place] if place < len(self.baseline.checks) else self.baseline.deciding

    @property
    def origin(self) -> Literal["free", "learned", ""]:
        """Of a claim that holds: free if it holds with random weights too, learned if it does not.

        A baseline that is undecided says "not shown" only where its margin lies below the trained one's, the two
        intervals apart; else the origin stays open.
        """
        if self.word != "holds" or self.baseline is None:
            return ""
        if self.baseline.word in ("holds", "fails"):
            return "free" if self.baseline.word == "holds" else "learned"
        pairs = zip(self.checks, self.baseline.checks, strict=False)
        return "learned" if any(b.word == "undecided" and b.high < a.low for a, b in pairs) else ""

    def row(self) -> dict[str, Any]:
        """Its line of claims.csv."""
        other = self.baseline_check
        return {
            "claim": self.claim.id,
            "place": self.claim.place,
            "verdict": self.word,
            "value": self.value,
            "threshold": self.threshold,
            "baseline": other.value if other else None,
            "subjects": " ".join(self.subjects),
            "tables": " ".join(self.tables),
            "note": "; ".join(filter(None, (self.which, self.note))),
            "low": self.low,
            "high": self.high,
            "baseline_value": other.value if other else None,
            "baseline_threshold": other.bounds if other else None,
            "baseline_verdict": self.baseline.word if self.baseline else None,
            "origin": self.origin,
        }


def order(place: str) -> tuple[int, str, int]:
    """Sorting key of `Fig. 3`, `11 left`, `C.5`: the numbered figures, then the appendix' figures, then its text."""
    found = FIGURE.search(place)
    if found is None:
        return (2, place, 0)
    letter, _, number = found[0].rpartition(".")
    return (1, letter, int(number)) if letter else (0, "", int(number))


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The text of claims.csv, from the rows of verdicts and summaries."""
    # pandas formats no numbers that stand among texts
    rows = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    return pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n")
