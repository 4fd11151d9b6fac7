"""What a report is made of: figures and their panels, verdicts, what is missing and what was refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tf_vitcnn.report.networks import Network
from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.verdict import FIGURE, Verdict

if TYPE_CHECKING:
    from tf_vitcnn.charts import Drawing

SCHEMA = "https://vega.github.io/schema/vega-lite/{}.json"


@dataclass(frozen=True)
class Panel:
    """One chart of a figure: what it shows, of which networks, and the tables it was drawn from."""

    title: str
    models: tuple[str, ...]
    results: tuple[Result, ...]
    spec: dict[str, Any]
    random: bool = False  # of networks with random weights alone
    lines: bool = False  # networks are lines of it, rather than the whole panel
    twins: tuple[str | None, ...] = ()  # of random networks: the trained ones of the same architectures

    @property
    def stem(self) -> str:
        """Its part of a file name."""
        return re.sub(r"[^\w.-]+", "_", self.title)


@dataclass(frozen=True)
class Figure:
    """One figure as the paper lays it out: panels of trained networks side by side, random ones beneath."""

    drawing: Drawing
    analysis: str
    panels: tuple[Panel, ...]
    variant: str = ""  # of a sensitivity run: its tag
    data: str = ""  # the images, where the report has several sets

    @property
    def label(self) -> str:
        """`Fig. 1, B.1`."""
        return "Fig. " + ", ".join(self.drawing.figures) if self.drawing.figures else "Not in the paper"

    @property
    def title(self) -> str:
        """What it shows, with the tag and the images where they tell figures apart."""
        return ", ".join(filter(None, [self.drawing.title, self.variant, self.data]))

    @property
    def slug(self) -> str:
        """A file name that tells figure, analysis, variant and data."""
        if self.drawing.figures:
            number = re.sub(r"\d+", lambda n: n[0].zfill(2), self.drawing.figures[0])
            parts = [f"fig{number}", self.analysis, "lines" if self.drawing.together else ""]
        else:
            parts = [self.analysis, self.drawing.title.lower()]
        return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, [*parts, self.variant, self.data])))

    @property
    def results(self) -> tuple[Result, ...]:
        """All tables of the figure, each once."""
        return tuple({r.path: r for panel in self.panels for r in panel.results}.values())

    @property
    def rows(self) -> list[list[Panel]]:
        """Trained networks, then random ones."""
        return [row for kind in (False, True) if (row := [p for p in self.panels if p.random == kind])]

    @property
    def columns(self) -> int:
        """How many panels stand side by side where there is room: lines and photographs need more of it.

        Panels of one table stay in a row.
        """
        most = max(len(row) for row in self.rows)
        if self.panels[0].lines or _photographs(self.panels[0].spec):
            return min(most, 2)
        each = max(sum(p.results == self.panels[0].results for p in row) for row in self.rows)
        return min(most, each if 1 < each <= 4 else 4)

    def column_of(self, panel: Panel) -> int:
        """The column, from one, of the trained twin above a panel of random weights; 0: the next free one."""
        trained = self.rows[0]
        if not panel.random or trained[0].random or len(trained) > self.columns:
            return 0
        return next((i for i, p in enumerate(trained, 1) if p.models == panel.twins), 0)

    @property
    def spec(self) -> dict[str, Any]:
        """The whole figure as one chart."""
        return compose([[p.spec | {"title": p.title} for p in row] for row in self.rows])


@dataclass
class Report:
    """What a results directory holds, as a reader wants it: verdicts, figures, what is missing, what was refused."""

    results: list[Result]
    verdicts: list[Verdict]
    figures: list[Figure]
    missing: list[tuple[str, Drawing]]  # analysis, drawing
    networks: list[Network]
    problems: list[str] = field(default_factory=list)

    def verdicts_of(self, figure: Figure) -> list[Verdict]:
        """The tested verdicts on that figure's tables whose place is this figure."""
        paths = {result.path for result in figure.results}
        return [v for v in self.verdicts if v.checks and paths & set(v.tables) and _places(v) & _numbers(figure)]

    def figure_of(self, verdict: Verdict) -> Figure | None:
        """The figure that shows what the verdict speaks of: by its number in the paper, else by its tables."""
        tables = set(verdict.tables)
        shown = [f for f in self.figures if tables & {r.path for r in f.results}]
        return next((f for f in shown if _places(verdict) & _numbers(f)), next(iter(shown), None))


def _photographs(spec: dict[str, Any]) -> bool:
    """Whether a chart's maps lie over a photograph."""
    return any(layer.get("mark", {}).get("type") == "image" for layer in spec.get("spec", {}).get("layer", ()))


def _places(verdict: Verdict) -> set[str]:
    return set(FIGURE.findall(verdict.claim.place))


def _numbers(figure: Figure) -> set[str]:
    return set(figure.drawing.figures)


def compose(rows: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """One chart of several, whose data, parameters and theme stand once at its top."""
    top, lowered = parts(rows)
    lines = [row[0] if len(row) == 1 else {"hconcat": row} for row in lowered]
    if len(lines) == 1 and len(lowered[0]) == 1:
        return lines[0] | top
    shape = lines[0] if len(lines) == 1 else {"vconcat": lines}
    return shape | top | {"resolve": {"scale": {"color": "independent", "strokeDash": "independent"}}}


def parts(rows: list[list[dict[str, Any]]]) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """What charts have in common, and the charts without it."""
    import altair as alt

    top: dict[str, Any] = {"$schema": SCHEMA.format(alt.SCHEMA_VERSION)}
    return top, [[_lifted(spec, top) for spec in row] for row in rows]


def _lifted(spec: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """A chart without what belongs at the top."""
    for key in ("config", "datasets"):
        top[key] = {**top.get(key, {}), **spec.get(key, {})}
    known = {p["name"] for p in top.get("params", ())}
    more = [p for p in spec.get("params", ()) if p["name"] not in known]
    if more:
        top["params"] = [*top.get("params", ()), *more]
    if not top["datasets"]:
        del top["datasets"]
    return {k: v for k, v in spec.items() if k not in ("config", "datasets", "params", "$schema")}


def names_of(results: Iterable[Result]) -> tuple[str, ...]:
    """The models that tables speak of, each once."""
    return tuple(dict.fromkeys(s["name"] for r in results for s in r.sidecar["subjects"]))


def vegalite_version(schema: str) -> str:
    """`6.1` of `v6.1.0`: what the converter calls the version that Altair writes."""
    return ".".join(schema.lstrip("v").split(".")[:2])
