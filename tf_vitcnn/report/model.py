"""What a report is made of: figures, verdicts, what is missing and what was refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etils import epath

from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.verdict import FIGURE, Verdict

if TYPE_CHECKING:
    from tf_vitcnn.charts import Drawing


@dataclass(frozen=True)
class Figure:
    """One chart of the report: whose figure it is, what it shows, and the tables it was drawn from."""

    drawing: Drawing
    analysis: str
    results: tuple[Result, ...]
    spec: dict[str, Any]

    @property
    def label(self) -> str:
        """`Fig. 1, B.1`."""
        return "Fig. " + ", ".join(self.drawing.figures) if self.drawing.figures else "Not in the paper"

    @property
    def slug(self) -> str:
        """A file name that tells figure, analysis and models, from the tables' own names."""
        number = re.sub(r"\d+", lambda n: n[0].zfill(2), self.drawing.figures[0]) if self.drawing.figures else "00"
        stems = [epath.Path(result.path).stem for result in self.results]
        shown = stems if len(stems) <= 3 else [stems[0], f"and-{len(stems) - 1}-more"]
        return f"fig{number}-{self.analysis}-{'+'.join(shown)}"


@dataclass
class Report:
    """What a results directory holds, as a reader wants it: verdicts, figures, what is missing, what was refused."""

    results: list[Result]
    verdicts: list[Verdict]
    figures: list[Figure]
    missing: list[tuple[str, Drawing]]  # analysis, drawing
    problems: list[str] = field(default_factory=list)

    def verdicts_of(self, figure: Figure) -> list[Verdict]:
        """The tested verdicts on that figure's tables whose place is this figure."""
        paths = {result.path for result in figure.results}
        return [
            v
            for v in self.verdicts
            if v.checks and paths & set(v.tables) and set(FIGURE.findall(v.claim.place)) & set(figure.drawing.figures)
        ]


def vegalite_version(schema: str) -> str:
    """`6.1` of `v6.1.0`: what the converter calls the version that Altair writes."""
    return ".".join(schema.lstrip("v").split(".")[:2])
