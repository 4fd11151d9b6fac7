"""Drawing: one figure of the paper as an analysis draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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
