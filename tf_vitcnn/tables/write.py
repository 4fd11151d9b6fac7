"""A table on disk: CSV with its JSON sidecar and its groups, all whole or not at all.

The CSV is sorted, `%.6g`, LF: a rerun diffs clean.
"""

import contextlib
import json
import os
import re

import pandas as pd
from etils import epath

from tf_vitcnn.errors import BadInput, first_line
from tf_vitcnn.tables import groups
from tf_vitcnn.tables.schema import Sidecar

FORMAT = 1


def write_table(path: str | os.PathLike, table: pd.DataFrame, sidecar: Sidecar) -> None:
    """Writes PATH.csv and PATH.json; a reader sees both, the old ones, or no table, whatever happens meanwhile.

    `table.attrs["groups"]` goes beside them as PATH.groups.npz; without, none is left there.
    `table.attrs["files"]`, {ending: bytes}, is what an analysis keeps beside them (a probe's weights).
    """
    base = epath.Path(path)
    csv = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    text = json.dumps({"format": FORMAT, **sidecar}, indent=1, ensure_ascii=False, allow_nan=False)
    # the CSV last: what has a CSV is complete, and a run that is killed before goes on with the same command
    contents = {**_groups(table), **table.attrs.get("files", {}), "json": (text + "\n").encode(), "csv": csv.encode()}
    parts = {name: base.parent / f".{base.name}.{name}.{os.getpid()}.part" for name in contents}
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        # a full disk shows here, before any harm
        for name, part in parts.items():
            part.write_bytes(contents[name])
        # an old table must never stand beside a new sidecar
        (base.parent / f"{base.name}.csv").unlink(missing_ok=True)
        # nor an old table's groups beside a new one
        (base.parent / f"{base.name}.{groups.ENDING}").unlink(missing_ok=True)
        for name, part in parts.items():
            part.replace(base.parent / f"{base.name}.{name}")
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise BadInput(f"{base}.csv: cannot be written: {error.strerror or first_line(error)}") from error


def _groups(table: pd.DataFrame) -> dict[str, bytes]:
    changes = table.attrs.get(groups.ATTRIBUTE)
    if changes is None:
        return {}
    changes = groups.Groups(changes)
    try:
        groups.fit(changes, table, table.columns)
    except ValueError as error:
        raise BadInput(f"the table's groups do not fit: {error}; take them along, or out of its attrs") from error
    return {groups.ENDING: groups.to_bytes(changes)}


def discard_parts(path: str | os.PathLike) -> None:
    """Removes what killed processes left of PATH's files; only its one writer may ask for it."""
    base = epath.Path(path)
    ours = re.compile(rf"\.{re.escape(base.name)}\.(csv|json|weights\.npz|groups\.npz)\.\d+\.part")
    for part in base.parent.iterdir() if base.parent.exists() else ():
        if ours.fullmatch(part.name):
            part.unlink(missing_ok=True)
