"""Matrices that travel as one text of whole numbers, which the page opens with a `flatten` transform.

A tenth of the size of rows, and no limit on rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

CELL = "(datum.n - 1)"  # place of a cell in its packed matrix: rows are counted from one


def pack(cells: np.ndarray, steps: int = 1000) -> tuple[str, float]:
    """A matrix, row by row, as whole numbers parted by commas (empty: no value), and what to multiply them with."""
    flat = np.asarray(cells, np.float64).ravel()
    largest = float(np.nanmax(np.abs(flat), initial=0.0)) if np.isfinite(flat).any() else 0.0
    unit = largest / steps if largest > 0 else 1.0
    if steps == 1000 and 0.5 < largest <= 1.5:
        unit = 0.001  # correlations keep their decimals exactly
    return ",".join("" if np.isnan(v) else f"{v / unit:.0f}" for v in flat), float(f"{unit:.6g}")


def opened(
    rows: Sequence[Mapping[str, Any]],
    value: str,
    cells: Sequence[np.ndarray],
    fields: Mapping[str, str],
    error: str | None = None,
    errors: Sequence[np.ndarray] = (),
) -> Any:
    """A chart whose rows are the cells of packed matrices, one matrix per row of `rows`; `errors` to two digits."""
    data = [dict(row) for row in rows]
    for row, matrix in zip(data, cells, strict=True):
        row["cells"], row["unit"] = pack(matrix)
    for row, matrix in zip(data, errors, strict=False):
        row["errors"], row["error_unit"] = pack(matrix, 99)
    texts: Any = ["cells", "errors"] if error else ["cells"]
    key = "panel" if data and "panel" in data[0] else "unit"
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .transform_calculate(**{text: f"split(datum.{text}, ',')" for text in texts})
        .transform_flatten(texts)
        .transform_window(n="row_number()", groupby=[key])
        .transform_calculate(**{value: "datum.cells === '' ? null : datum.unit * datum.cells"})
    )
    if error:
        chart = chart.transform_calculate(
            **{error: "datum.errors === '' ? null : datum.error_unit * datum.errors"},
        )
    for name, expression in fields.items():
        chart = chart.transform_calculate(**{name: expression})
    return chart
