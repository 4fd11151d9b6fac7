"""One folder, one question. An analysis is found by its name; there is no list to edit.

Importing this package does not import TensorFlow: charts, claims and reports need tables only.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from tf_vitcnn.analyses.base import Analysis, PerMinibatch
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.tables import read, training_log
from tf_vitcnn.tables.schema import Schema
from tf_vitcnn.verdicts.interval import Interval
from tf_vitcnn.verdicts.interval import interval as of_statistic

if TYPE_CHECKING:
    import altair
    import pandas as pd


@cache
def names() -> tuple[str, ...]:
    """All analyses: the folders of this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def find(name: str) -> type[Analysis]:
    """The analysis of that name: the one class in its folder's `analysis.py` that carries it."""
    if name not in names():
        raise unknown("analysis", name, names())
    module = importlib.import_module(f"{__name__}.{name}.analysis")
    for item in vars(module).values():
        if isinstance(item, type) and issubclass(item, Analysis) and getattr(item, "name", None) == name:
            return item
    raise TypeError(f"{module.__name__} holds no Analysis whose name is {name!r}")


def beside() -> dict[str, Schema]:
    """The tables that stand beside those of analyses."""
    return {name: schema for kind in map(find, names()) for name, schema in kind.beside.items()}


def schema_of(name: str) -> Schema:
    """The columns of an analysis' tables, and of those beside them; those of a training's log too."""
    known = {training_log.NAME: training_log.SCHEMA}
    if name not in (*known, *names()):
        known |= beside()
    return known[name] if name in known else find(name).schema


def read_table(path: str | os.PathLike) -> "pd.DataFrame":
    """The table or training log at PATH (.csv), typed by its Schema, provenance in `.attrs["sidecar"]`."""
    return read.read(path, schema_of)


def interval(
    tables: Any, statistic: Callable[..., float], level: float = 0.95, *, jumps: bool = False, seed: int = 0
) -> Interval:
    """Value, standard error, low and high of `statistic(*tables)` with other images of the same kind.

    `tables`: one or several, as DataFrames of `read_table` and `run` or as paths; `statistic`: any pure function of
    them. `jumps`: it changes in steps (a median depth, a best match), so take random weightings (`seed` fixes them).
    """
    import pandas as pd

    several = [tables] if isinstance(tables, pd.DataFrame | str | os.PathLike) else list(tables)
    opened = [table if isinstance(table, pd.DataFrame) else read_table(table) for table in several]
    return of_statistic(opened, statistic, level, jumps=jumps, seed=seed)


def chart(table: "pd.DataFrame", analysis_name: str | None = None) -> "altair.Chart":
    """The figure of a table: by its analysis' name, else by its own provenance, else by its columns."""
    return find(analysis_name or analysis_of(table)).chart(with_errors_over_images(table))


def with_errors_over_images(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table without errors that are not over images.

    Tables of Gram matrices made before there were groups of images tell the spread over repeats of the same images,
    which is several times too small.
    """
    made_by = table.attrs.get("sidecar", {}).get("analysis")
    if made_by not in names() or not issubclass(find(made_by), PerMinibatch) or "groups" in table.attrs:
        return table
    known = table.assign(**{name: float("nan") for name in table.columns if str(name).endswith("_se")})
    known.attrs = table.attrs
    return known


def analysis_of(table: "pd.DataFrame") -> str:
    """Which analysis made that table."""
    recorded = table.attrs.get("sidecar", {}).get("analysis")
    if recorded:
        return str(recorded)
    # a table that pandas joined or cut has lost its provenance; columns tell most of them apart
    fitting = [name for name in names() if _fits(find(name).schema, set(map(str, table)))]
    if len(fitting) == 1:
        return fitting[0]
    choices = ", ".join(fitting or names())
    raise BadInput(f"a table of columns {', '.join(map(str, table))}: name its analysis, one of {choices}")


def _fits(schema: Schema, columns: set[str]) -> bool:
    needed = {*schema.keys, *schema.values} - set(schema.optional)
    return needed <= columns <= {*schema.keys, *schema.values}


def show(shown: Any) -> Any:
    """A table's figure, or any chart, as every notebook draws it, offline too."""
    import pandas as pd

    from tf_vitcnn.charts import notebook

    return notebook.show(chart(shown) if isinstance(shown, pd.DataFrame) else shown)
