"""Drawing: one figure of the paper as an analysis draws it, and the panels that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

Extent = tuple[float, float]


class Panel(NamedTuple):
    """One part of a figure, a chart that stands on its own; no title: its models' names say it."""

    chart: Any  # Altair's chart classes share no useful base
    title: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure: its numbers in the paper, what one sees, and the function from table to chart or to several panels.

    `fits` says by its sidecar whether a table is drawn so. `together`: all tables of the same data that fit are drawn
    in the same panels, their rows under each other (lines of several models); else each table has panels of its own.
    `of` names the table beside the analysis' own that is drawn, where it is not that one.
    `shared` names the column whose range all panels of a figure share, or picks the values from a table: `draw` then
    gets the range as its second argument.
    """

    figures: tuple[str, ...]
    title: str
    caption: str
    draw: Callable[..., Any]
    fits: Callable[[dict[str, Any]], bool] = lambda sidecar: True
    together: bool = False
    shared: str | Callable[[pd.DataFrame], pd.Series] = ""
    of: str = ""

    def panels(self, tables: Sequence[pd.DataFrame]) -> list[list[Panel]]:
        """The panels of each table, on scales that can be compared."""
        return [as_panels(self.draw(table, *self._more(tables))) for table in tables]

    def _more(self, tables: Sequence[pd.DataFrame]) -> tuple[Extent, ...]:
        if not self.shared:
            return ()
        if callable(self.shared):
            return (extent(map(self.shared, tables)),)
        return (extent(table[self.shared] for table in tables),)


def as_panels(drawn: Any) -> list[Panel]:
    """What a drawing gave, as panels."""
    return list(drawn) if isinstance(drawn, list) else [Panel(drawn)]


def extent(columns: Iterable[pd.Series]) -> Extent:
    """The range of all finite values of some columns."""
    spans = [(c.min(), c.max()) for c in columns if c.notna().any()]
    return (float(min(s[0] for s in spans)), float(max(s[1] for s in spans))) if spans else (0.0, 1.0)


def side_by_side(panels: Any) -> Any:
    """One chart of several panels, for notebooks and files of their own; two rows where a page is not wide enough."""
    import altair as alt

    parts = [p.chart.properties(title=p.title) if p.title else p.chart for p in as_panels(panels)]
    if len(parts) > 3:
        return alt.concat(*parts, columns=2)
    return parts[0] if len(parts) == 1 else alt.hconcat(*parts)
