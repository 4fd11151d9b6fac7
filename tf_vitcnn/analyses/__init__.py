"""One file, one question. An analysis is found by its name; there is no list to edit.

Importing this package does not import TensorFlow: charts, claims and reports need tables only.
"""

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from tf_vitcnn.errors import unknown

if TYPE_CHECKING:
    import altair
    import pandas as pd

    from tf_vitcnn.analyses.base import Analysis


@cache
def names() -> tuple[str, ...]:
    """All analyses: the modules of this package but `base` and those that start with an underscore."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


def find(name: str) -> "type[Analysis]":
    """The analysis of that name: the one class in its module that carries it."""
    from tf_vitcnn.analyses.base import Analysis

    if name not in names():
        raise unknown("analysis", name, names())
    module = importlib.import_module(f"{__name__}.{name}")
    for item in vars(module).values():
        if isinstance(item, type) and issubclass(item, Analysis) and getattr(item, "name", None) == name:
            return item
    raise TypeError(f"{module.__name__} holds no Analysis whose name is {name!r}")


def chart(table: "pd.DataFrame", analysis_name: str) -> "altair.Chart":
    """The figure of a table, by its analysis' name."""
    return find(analysis_name).chart(table)
