"""What was found: verdicts in groups, each claim with one row of numbers per combination of networks.

A row is drawn as dots on a line: the network's number with its interval, the same number with random weights as far
from the threshold as it lies from its own, and the threshold. Positions are in units of a drawing WIDTH wide, so that
the page's template only places them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tf_vitcnn.report.model import Figure, Report
from tf_vitcnn.verdicts.verdict import Check, Statement, Verdict

WIDTH, MARGIN = 240.0, 8.0

RANDOM = "the same architectures with random weights"
# Where a verdict stands on the page, and what the group's heading says.
GROUPS = {
    "learned": ("Learned here", "Holds, and does not hold for the same architectures with random weights."),
    "free": ("Given by the architecture", "Holds, and holds for the same architectures with random weights too."),
    "holds": ("Holds; learned or given is not known", "There is no comparison with random weights that decides."),
    "fails": ("Does not hold", "The number lies on the other side of its threshold."),
    "undecided": ("Undecided", "The interval of the number reaches over its threshold."),
    "maybe-learned": ("Undecided, no error known: its number says learned", f"On the claim's side, unlike {RANDOM}."),
    "maybe-free": ("Undecided, no error known: its number says given", f"On the claim's side, as with {RANDOM}."),
    "maybe-holds": ("Undecided, no error known: its number is on the claim's side", f"No comparison with {RANDOM}."),
    "maybe-fails": (
        "Undecided, no error known: its number is on the other side",
        "The number lies on the other side of its threshold.",
    ),
}
MARKS = {"learned": "✓", "free": "✓", "holds": "✓", "fails": "✗", "undecided": "~", "untested": "–"}
MARKS |= {group: "(✗)" if group == "maybe-fails" else "(✓)" for group in GROUPS if group.startswith("maybe")}
SPOKEN = {
    **{group: "undecided, no error known" for group in GROUPS if group.startswith("maybe")},
    **{"learned": "holds, learned", "free": "holds, given by the architecture", "holds": "holds"},
    **{"fails": "does not hold", "undecided": "undecided", "untested": "untested"},
}


@dataclass(frozen=True)
class Dots:
    """Places on the line of one number; None where there is nothing to place."""

    value: float
    threshold: float
    upper: float | None
    low: float | None
    high: float | None
    random: float | None


@dataclass(frozen=True)
class Row:
    """One verdict as the page shows it."""

    verdict: Verdict
    group: str
    check: Check | None
    random: Check | None

    @property
    def mark(self) -> str:
        """Its sign in the matrix."""
        return MARKS[self.group]

    @property
    def spoken(self) -> str:
        """Its word, with where it comes from."""
        return SPOKEN[self.group]

    @property
    def who(self) -> str:
        """The networks that it speaks of."""
        return " · ".join(self.verdict.subjects)

    @property
    def measured(self) -> str:
        """Every number against its threshold."""
        return "; ".join(map(number, self.verdict.checks))

    @property
    def summary(self) -> str:
        """What the drawing shows, in words."""
        if self.check is None:
            return f"{self.who}: {self.verdict.note or 'untested'}"
        random = f"; with random weights {self.beside}" if self.random else ""
        return f"{self.who}: {self.spoken}, {number(self.check)}{random}"

    @property
    def beside(self) -> str:
        """The number with random weights, against its own threshold: `0.0277 > 0.0155`."""
        if self.random is None:
            return ""
        return f"{self.random.value:.3g} {'' if self.random.margin > 0 else 'not '}{bound(self.random)}"

    @property
    def line(self) -> str:
        """The numbers beside the dots."""
        if self.check is None:
            return ""
        random = f", random {self.beside}" if self.random else ""
        sign = "" if self.check.margin > 0 else "not "
        return f"{self.check.value:.3g} {sign}{bound(self.check)}{random}"


@dataclass(frozen=True)
class Finding:
    """A claim with those of its verdicts that belong to one group."""

    claim: Statement
    rows: tuple[tuple[Row, Dots], ...]
    figure: Figure | None  # where it can be seen
    panel: int  # of that figure


def findings(report: Report, again: Sequence[bool] = (False, True)) -> dict[str, list[Finding]]:
    """Group -> claims in the paper's order; groups without one are left out. `again`: which claims, by that field."""
    rows = [row_of(v) for v in report.verdicts if v.checks and v.claim.again in again]
    found: dict[str, list[Finding]] = {}
    for group in GROUPS:
        claims = dict.fromkeys(row.verdict.claim.id for row in rows if row.group == group)
        chosen = [_finding([r for r in rows if r.group == group and r.verdict.claim.id == c], report) for c in claims]
        if chosen:
            found[group] = chosen
    return found


def row_of(verdict: Verdict) -> Row:
    """The group, the deciding number and its counterpart with random weights."""
    return Row(verdict, _group(verdict), verdict.deciding, verdict.baseline_check)


def _group(verdict: Verdict) -> str:
    """Its word, and where what holds comes from; without any error, what the numbers alone would say."""
    if verdict.word == "holds":
        return verdict.origin or "holds"
    if verdict.word != "undecided" or not all(math.isnan(check.low) for check in verdict.checks):
        return verdict.word
    if any(check.margin <= 0 for check in verdict.checks):
        return "maybe-fails"
    if verdict.baseline is None or not verdict.baseline.checks:
        return "maybe-holds"
    return "maybe-free" if all(check.margin > 0 for check in verdict.baseline.checks) else "maybe-learned"


def _finding(rows: Sequence[Row], report: Report) -> Finding:
    scale = _Scale(rows)
    verdict = rows[0].verdict
    figure = report.figure_of(verdict)
    panels = figure.panels if figure else ()
    tables = set(verdict.tables)
    panel = next((i for i, p in enumerate(panels) if not p.random and tables & {r.path for r in p.results}), 0)
    return Finding(verdict.claim, tuple((row, scale.dots(row)) for row in rows), figure, panel)


class _Scale:
    """One line for all rows of a claim."""

    def __init__(self, rows: Iterable[Row]) -> None:
        numbers = [v for row in rows for v in _numbers(row) if v is not None and math.isfinite(v)]
        self.low, self.high = min(numbers), max(numbers)

    def __call__(self, value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)

    def dots(self, row: Row) -> Dots:
        value, threshold, upper, low, high, random = map(self, _numbers(row))
        return Dots(value or 0.0, threshold or 0.0, upper, low, high, random)


def _numbers(row: Row) -> tuple[float | None, ...]:
    check = row.check
    assert check is not None
    low, high = interval_of(check)
    random = None
    if row.random:
        # its threshold may be another statistic: it lies as far from this one as from its own
        random = row.random.value + check.threshold - row.random.threshold
    upper = check.upper if check.relation == "in" else None
    return check.value, check.threshold, upper, low, high, random


def interval_of(check: Check) -> tuple[float | None, float | None]:
    """The 95 % interval of the number itself, from that of its margin."""
    if math.isnan(check.low):
        return None, None
    below, above = check.low - check.margin, check.high - check.margin
    rising = check.relation == ">" or (check.relation == "in" and check.value - check.threshold == check.margin)
    return (check.value + below, check.value + above) if rising else (check.value - above, check.value - below)


def bound(check: Check) -> str:
    """`> 0.25` or `between 0.25 and 0.7`."""
    if check.relation == "in":
        return f"between {check.threshold:.3g} and {check.upper:.3g}"
    return f"{check.relation} {check.threshold:.3g}"


def number(check: Check) -> str:
    """`0.61 > 0.25 (margin 0.32 to 0.4)`, with what it is a number of."""
    margin = f" (margin {check.low:.2g} to {check.high:.2g})" if not math.isnan(check.low) else ""
    sign = "" if check.margin > 0 else "not "
    return f"{check.what + ': ' if check.what else ''}{check.value:.3g} {sign}{bound(check)}{margin}"
