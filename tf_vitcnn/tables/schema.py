"""Schema: what a table may hold. Tables are tidy DataFrames that leave only through theirs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables import groups

Sidecar = dict[str, Any]


@dataclass(frozen=True)
class Schema:
    """The columns of one analysis' table: unique keys, then values, each with its range.

    Keys are text unless named in `integers`. Values are floats in [low, high]; an empty cell (NaN) is allowed only
    in `nullable` values. `optional` values may be absent altogether.
    """

    keys: tuple[str, ...]
    values: Mapping[str, tuple[float, float]]
    integers: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    optional: tuple[str, ...] = field(default=())
    sort: tuple[str, ...] = ()  # keys to sort by; default: all of them, in order

    def check(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with its columns in order, typed and sorted; anything that the schema forbids is an error.

        The groups in its attrs are sorted with it.
        """
        required = [*self.keys, *(v for v in self.values if v not in self.optional)]
        known = [*self.keys, *self.values]
        missing = [c for c in required if c not in table.columns]
        surplus = [c for c in table.columns if c not in known]
        if missing or surplus:
            raise BadInput(
                f"columns do not fit: missing {missing or 'none'}, surplus {surplus or 'none'}; "
                f"expected {', '.join(known)}"
            )
        table = table[[c for c in known if c in table.columns]].reset_index(drop=True)
        for key in self.keys:
            table[key] = table[key].astype("int64" if key in self.integers else "str")
        for value, (low, high) in self.values.items():
            if value in table.columns:
                self._check_range(table, value, low, high)
        table = table.sort_values(list(self.sort or self.keys), kind="stable")
        if groups.ATTRIBUTE in table.attrs:
            groups.with_groups(table, self._fitting(table).taken(table.index.to_numpy()))
        table = table.reset_index(drop=True)
        twice = table.duplicated(list(self.keys))
        if twice.any():
            row = table.loc[twice, list(self.keys)].iloc[0].to_dict()
            raise BadInput(f"two rows share the keys {row}")
        return table

    def _fitting(self, table: pd.DataFrame) -> groups.Groups:
        changes: groups.Groups = table.attrs[groups.ATTRIBUTE]
        try:
            groups.fit(changes, table, self.values)
        except ValueError as error:
            raise BadInput(f"groups do not fit: {error}") from error
        return changes

    def _check_range(self, table: pd.DataFrame, value: str, low: float, high: float) -> None:
        column = pd.to_numeric(table[value], errors="coerce").astype("float64")
        empty = column.isna()
        if empty.any() and value not in self.nullable:
            row = table.loc[empty, list(self.keys)].iloc[0].to_dict()
            raise BadInput(f"{value} is not a number at {row}")
        # float32 sums may step over a bound by their rounding, never by more
        slack = 1e-4 * max(1.0, abs(low) if math.isfinite(low) else 0, abs(high) if math.isfinite(high) else 0)
        outside = (column < low - slack) | (column > high + slack) | np.isinf(column)
        if outside.any():
            row = table.loc[outside, [*self.keys, value]].iloc[0].to_dict()
            raise BadInput(f"{value} lies outside [{low:g}, {high:g}] at {row}")
        table[value] = column
