"""The verdicts as a matrix: a row per claim, a column per combination of networks, trainings of one recipe in one."""

from __future__ import annotations

from dataclasses import dataclass

from tf_vitcnn.report.findings import Row, row_of
from tf_vitcnn.report.model import Figure, Report
from tf_vitcnn.verdicts.seeds import training
from tf_vitcnn.verdicts.verdict import Statement, Verdict


@dataclass(frozen=True)
class Cell:
    """What a claim's verdicts on one column say."""

    rows: tuple[Row, ...]

    @property
    def tested(self) -> list[Row]:
        """Those with numbers; all where none has."""
        return [row for row in self.rows if row.check] or list(self.rows)

    @property
    def group(self) -> str:
        """Theirs, where they agree."""
        groups = {row.group for row in self.tested}
        return groups.pop() if len(groups) == 1 else "mixed"

    @property
    def mark(self) -> str:
        """Their sign; how many hold where they do not agree."""
        return self.tested[0].mark if self.group != "mixed" else f"{self._held}/{len(self.tested)}"

    @property
    def summary(self) -> str:
        """What the mark says, in words."""
        first = self.tested[0]
        if len(self.tested) == 1:
            return first.summary
        agreed = f"{first.spoken}, all {len(self.tested)} trainings"
        return f"{first.who}: {agreed if self.group != 'mixed' else f'{self._held} of {len(self.tested)} hold'}"

    @property
    def _held(self) -> int:
        return sum(row.verdict.word == "holds" for row in self.tested)


@dataclass(frozen=True)
class Column:
    """Networks that verdicts speak of, once for each training; the first names the column."""

    networks: tuple[tuple[str, ...], ...]

    @property
    def trainings(self) -> int:
        """How many there are of the network that was trained most often."""
        return max(len(set(names)) for names in zip(*self.networks, strict=True))

    @property
    def title(self) -> str:
        """`vit · bit × 3`, of several trainings."""
        return " · ".join(self.networks[0]) + (f" × {self.trainings}" if self.trainings > 1 else "")


@dataclass(frozen=True)
class Line:
    """A claim's cells, one per column (without rows where the claim does not speak of these networks)."""

    claim: Statement
    cells: tuple[Cell, ...]
    shown: tuple[tuple[Row, Figure | None], ...]
    """its verdicts, each with where it can be seen"""


@dataclass(frozen=True)
class Matrix:
    """All that was tested."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def folded(self) -> bool:
        """Whether a column stands for several trainings."""
        return any(column.trainings > 1 for column in self.columns)


def matrix(report: Report) -> Matrix:
    """Every verdict on a claim and on networks that were tested; what the rest would take is told elsewhere."""
    told = [(v, _kind(v)) for v in report.verdicts]
    claims = dict.fromkeys(v.claim.id for v, _ in told if v.checks)
    kinds = {kind for v, kind in told if v.checks}
    told = [(v, kind) for v, kind in told if v.claim.id in claims and kind in kinds]
    rank = {network.name: i for i, network in enumerate(report.networks)}
    places = sorted((len(v.subjects), sorted(rank[name] for name in v.subjects), kind) for v, kind in told)
    columns: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}  # kind -> its networks, in order
    for _, place, kind in places:
        columns.setdefault(kind, {})[tuple(report.networks[i].name for i in place)] = None
    lines = []
    for claim in claims:
        mine = [(row_of(v), kind) for v, kind in told if v.claim.id == claim]
        cells = [Cell(tuple(row for row, kind in mine if kind == column)) for column in columns]
        shown = tuple((row, report.figure_of(row.verdict)) for cell in cells for row in cell.rows)
        lines.append(Line(mine[0][0].verdict.claim, tuple(cells), shown))
    return Matrix(tuple(Column(tuple(networks)) for networks in columns.values()), tuple(lines))


def _kind(verdict: Verdict) -> tuple[str, ...]:
    """How its networks were trained, which trainings share; what has no card is its own kind."""
    return tuple(sorted(training(record) or str(record["name"]) for record in verdict.records))
