"""Drawing: one figure of the paper as an analysis draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from tf_vitcnn.analyses.base import Analysis


@dataclass(frozen=True)
class Drawing:
    """A figure: its numbers in the paper, what one sees, and the function from table to chart.

    `fits` says by its sidecar whether a table is drawn so. `together`: all tables of the same data that fit are drawn
    in one chart, their rows under each other (lines of several models); else each table has its own chart.
    """

    figures: tuple[str, ...]
    title: str
    caption: str
    draw: Callable[[pd.DataFrame], Any]
    fits: Callable[[dict[str, Any]], bool] = lambda sidecar: True
    together: bool = False


def drawings_of(analysis: type[Analysis]) -> tuple[Drawing, ...]:
    """The drawings that an analysis lists, else its one chart under all its figure numbers."""
    if analysis.drawings:
        return analysis.drawings
    doc = (analysis.__doc__ or "").strip().splitlines()
    title = doc[0].rstrip(".") if doc else analysis.name
    return (Drawing(analysis.figures, title, "", analysis.chart),)
