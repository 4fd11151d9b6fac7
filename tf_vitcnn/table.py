"""Tables: tidy DataFrames that leave only through their Schema, as CSV with a JSON sidecar beside it.

The CSV is sorted, `%.6g`, LF: a rerun diffs clean. The sidecar records what made the table; a table is stale when
the parts of the sidecar that identify it (`analysis`, `parameters`, `subjects`, `data`) differ.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from tf_vitcnn.errors import BadInput

FORMAT = 1
IDENTITY = ("format", "analysis", "parameters", "subjects", "data")
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
        """The table with its columns in order, typed and sorted; anything that the schema forbids is an error."""
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
        table = table.sort_values(list(self.sort or self.keys), kind="stable", ignore_index=True)
        twice = table.duplicated(list(self.keys))
        if twice.any():
            row = table.loc[twice, list(self.keys)].iloc[0].to_dict()
            raise BadInput(f"two rows share the keys {row}")
        return table

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


def write(path: str | os.PathLike, table: pd.DataFrame, sidecar: Sidecar) -> None:
    """Writes PATH.csv and PATH.json; a reader sees both, the old ones, or no table, whatever happens meanwhile.

    `table.attrs["files"]`, {ending: bytes}, is what an analysis keeps beside them (a probe's weights).
    """
    base = epath.Path(path)
    csv = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    text = json.dumps({"format": FORMAT, **sidecar}, indent=1, ensure_ascii=False, allow_nan=False)
    # the CSV last: what has a CSV is complete, and a run that is killed before goes on with the same command
    contents = {**table.attrs.get("files", {}), "json": (text + "\n").encode(), "csv": csv.encode()}
    parts = {name: base.parent / f".{base.name}.{name}.{os.getpid()}.part" for name in contents}
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        # a full disk shows here, before any harm
        for name, part in parts.items():
            part.write_bytes(contents[name])
        # an old table must never stand beside a new sidecar
        (base.parent / f"{base.name}.csv").unlink(missing_ok=True)
        for name, part in parts.items():
            part.replace(base.parent / f"{base.name}.{name}")
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise BadInput(f"{base}.csv: cannot be written: {error.strerror or first_line(error)}") from error


def discard_parts(path: str | os.PathLike) -> None:
    """Removes what killed processes left of PATH's files; only its one writer may ask for it."""
    base = epath.Path(path)
    ours = re.compile(rf"\.{re.escape(base.name)}\.(csv|json|weights\.npz)\.\d+\.part")
    for part in base.parent.iterdir() if base.parent.exists() else ():
        if ours.fullmatch(part.name):
            part.unlink(missing_ok=True)


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """The table or training log at PATH (.csv), typed by its Schema, provenance in `.attrs["sidecar"]`."""
    csv = epath.Path(path)
    sidecar = read_sidecar(csv)
    name = sidecar["analysis"]
    schema = _schema(name)
    try:
        # pandas would read `NA` or `00` as something else: keys are text
        text = {key: "str" for key in schema.keys if key not in schema.integers}
        with csv.open("r") as lines:
            table = pd.read_csv(lines, dtype=text, keep_default_na=False, na_values={v: [""] for v in schema.values})
        table = schema.check(table)
    except (OSError, ValueError, OverflowError) as error:
        raise BadInput(f"{csv}: not a table of {name}: {first_line(error)}") from error
    table.attrs["sidecar"] = sidecar
    return table


def _schema(name: str) -> Schema:
    from tf_vitcnn import analyses
    from tf_vitcnn.training import log

    return log.SCHEMA if name == log.NAME else analyses.find(name).schema


def read_sidecar(path: str | os.PathLike) -> Sidecar:
    """The JSON beside a CSV."""
    csv = epath.Path(path)
    if csv.suffix != ".csv":
        raise BadInput(f"{csv}: expected a .csv table with its .json beside it")
    beside = csv.with_suffix(".json")
    for file in (csv, beside):
        if not file.exists():
            raise BadInput(f"{file}: no such file")
    try:
        sidecar = json.loads(beside.read_text())
        if not isinstance(sidecar, dict) or not isinstance(sidecar["analysis"], str):
            raise ValueError("no object with a field 'analysis'")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise BadInput(f"{beside}: not a sidecar: {first_line(error)}") from error
    return sidecar


def differences(old: Sidecar, new: Sidecar) -> list[str]:
    """What identifies a table and differs between two sidecars, as `field: old -> new`."""
    return [
        f"{'.'.join(map(str, where))}: {a!r} -> {b!r}"
        for part in IDENTITY
        for where, a, b in _unequal((part,), old.get(part), json.loads(json.dumps(new.get(part))))
    ]


def _unequal(where: tuple, a: Any, b: Any) -> Sequence[tuple[tuple, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        return [row for key in keys for row in _unequal((*where, key), a.get(key), b.get(key))]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [row for i, (x, y) in enumerate(zip(a, b, strict=True)) for row in _unequal((*where, i), x, y)]
    return [] if a == b else [(where, a, b)]


def first_line(error: BaseException) -> str:
    """An exception as one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
