"""A table back from disk, and whether it is stale.

The sidecar records what made the table; a table is stale when the parts of the sidecar that identify it (`analysis`,
`parameters`, `subjects`, `data`) differ.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from etils import epath

from tf_vitcnn.errors import BadInput, first_line
from tf_vitcnn.tables import groups
from tf_vitcnn.tables.attached import Attached
from tf_vitcnn.tables.schema import Schema, Sidecar

PNG, MOST = b"\x89PNG", 200_000
IDENTITY = ("format", "analysis", "parameters", "subjects", "data")


def read(path: str | os.PathLike, schema_of: Callable[[str], Schema]) -> pd.DataFrame:
    """The table at PATH (.csv), typed by the Schema of its analysis' name, provenance in `.attrs["sidecar"]`.

    What its values would be without each group of images is in `.attrs["groups"]`, where the file is there.
    """
    csv = epath.Path(path)
    sidecar = read_sidecar(csv)
    name = sidecar["analysis"]
    schema = schema_of(name)
    try:
        # pandas would read `NA` or `00` as something else: keys are text
        text = {key: "str" for key in schema.keys if key not in schema.integers}
        with csv.open("r") as lines:
            table = pd.read_csv(lines, dtype=text, keep_default_na=False, na_values={v: [""] for v in schema.values})
        table = schema.check(table)
    except (OSError, ValueError, OverflowError) as error:
        raise BadInput(f"{csv}: not a table of {name}: {first_line(error)}") from error
    table.attrs["sidecar"] = sidecar
    beside = csv.with_suffix(f".{groups.ENDING}")
    if beside.exists():
        table.attrs[groups.ATTRIBUTE] = groups.read(beside, table, list(schema.values))
    if pictures := _pictures(csv):
        table.attrs["pictures"] = pictures
    return table


def _pictures(csv: epath.Path) -> Attached:
    """`00` -> the PNG that an analysis of single images put beside its table; none above MOST bytes."""
    name = re.compile(rf"{re.escape(csv.stem)}\.image(\d+)\.png")
    # listed, not globbed: names hold brackets
    found = {m[1]: file.read_bytes() for file in csv.parent.iterdir() if (m := name.fullmatch(file.name))}
    return Attached({i: data for i, data in sorted(found.items()) if data.startswith(PNG) and len(data) <= MOST})


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
    old, new = (json.loads(json.dumps({part: side.get(part) for part in IDENTITY})) for side in (old, new))
    return [
        f"{'.'.join(map(str, where))}: {a!r} -> {b!r}"
        for part in IDENTITY
        for where, a, b in _unequal((part,), old[part], new[part])
        if where[:2] != ("data", "skipped")  # what a run met, not what it was asked for
    ]


def _unequal(where: tuple, a: Any, b: Any) -> Sequence[tuple[tuple, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        return [row for key in keys for row in _unequal((*where, key), a.get(key), b.get(key))]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [row for i, (x, y) in enumerate(zip(a, b, strict=True)) for row in _unequal((*where, i), x, y)]
    return [] if a == b else [(where, a, b)]
