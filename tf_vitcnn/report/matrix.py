"""The verdicts as a matrix: a row per claim, a column per combination of networks."""

from __future__ import annotations

from dataclasses import dataclass

from tf_vitcnn.report.findings import Row, row_of
from tf_vitcnn.report.model import Figure, Report
from tf_vitcnn.verdicts.verdict import Statement


@dataclass(frozen=True)
class Line:
    """A claim's cells, one per column (None where the claim does not speak of these networks)."""

    claim: Statement
    cells: tuple[Row | None, ...]
    figures: tuple[Figure | None, ...]

    @property
    def shown(self) -> list[tuple[Row, Figure | None]]:
        """The cells that say something."""
        return [(row, figure) for row, figure in zip(self.cells, self.figures, strict=True) if row]


@dataclass(frozen=True)
class Matrix:
    """Columns are the networks of a verdict, in the claim's order."""

    columns: tuple[tuple[str, ...], ...]
    lines: tuple[Line, ...]


def matrix(report: Report) -> Matrix:
    """Every verdict that was tested on tables; claims that none of them can test are told elsewhere."""
    rows = [row_of(v) for v in report.verdicts if v.subjects]
    rank = {network.name: i for i, network in enumerate(report.networks)}
    tested = {row.verdict.claim.id for row in rows if row.check}
    rows = [row for row in rows if row.verdict.claim.id in tested]
    names = {row.verdict.subjects for row in rows}
    columns = sorted(names, key=lambda subjects: (len(subjects), [rank[name] for name in subjects]))
    lines = []
    for claim in dict.fromkeys(row.verdict.claim.id for row in rows):
        mine = {row.verdict.subjects: row for row in rows if row.verdict.claim.id == claim}
        cells = tuple(mine.get(column) for column in columns)
        figures = tuple(report.figure_of(cell.verdict) if cell else None for cell in cells)
        lines.append(Line(next(iter(mine.values())).verdict.claim, cells, figures))
    return Matrix(tuple(columns), tuple(lines))
