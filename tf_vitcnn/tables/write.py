"""A table on disk: CSV with its JSON sidecar and its groups, all whole or not at all.

The CSV is sorted, `%.6g` (standard errors `%.3g`: more digits of one are noise), LF: a rerun diffs clean.
"""

import json
import os

import pandas as pd
from etils import epath

from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables import files, groups
from tf_vitcnn.tables.schema import Sidecar

FORMAT = 1
ENDINGS = (groups.ENDING, "weights.npz", "json", "csv")


def write_table(path: str | os.PathLike, table: pd.DataFrame, sidecar: Sidecar) -> None:
    """Writes PATH.csv and PATH.json; a reader sees both, the old ones, or no table, whatever happens meanwhile.

    `table.attrs["groups"]` goes beside them as PATH.groups.npz; without, none is left there.
    `table.attrs["files"]`, {ending: bytes}, is what an analysis keeps beside them (a probe's weights).
    """
    base = epath.Path(path)
    names = [str(name) for name in table if str(name).endswith("_se")]
    errors = {name: [float(f"{error:.3g}") for error in table[name]] for name in names}
    csv = table.assign(**errors).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    text = json.dumps({"format": FORMAT, **sidecar}, indent=1, ensure_ascii=False, allow_nan=False)
    # the CSV last: what has a CSV is complete, and a run that is killed before goes on with the same command
    contents = {**_groups(table), **table.attrs.get("files", {}), "json": (text + "\n").encode(), "csv": csv.encode()}
    # an old table must never stand beside a new sidecar, nor its groups beside a new table
    files.write({_beside(base, name): data for name, data in contents.items()}, [_beside(base, groups.ENDING)])


def table_files(path: str | os.PathLike) -> list[epath.Path]:
    """What may stand under a table's name."""
    return [_beside(epath.Path(path), ending) for ending in ENDINGS]


def _beside(base: epath.Path, ending: str) -> epath.Path:
    return base.parent / f"{base.name}.{ending}"


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
