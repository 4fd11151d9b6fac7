"""Makes committed tables small.

python saved_results/squeeze.py

Standard errors get three digits, as runs write them today; of the groups stay five significant bits of each number
(six of the few of `similarity`, which are ranked), packed by what packs them closer.
"""

from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_LZMA

import numpy as np

import tf_vitcnn
from tf_vitcnn import analyses
from tf_vitcnn.tables import groups
from tf_vitcnn.tables.read import read_sidecar

BITS = {"similarity": 6}  # of a change: half a step of five is 1/64 of it, and an interval adds the squares of many


def rounded(change: np.ndarray, bits: int) -> np.ndarray:
    """Each number to its leading bits."""
    part, exponent = np.frexp(change)
    return np.ldexp(np.round(part * 2**bits), exponent - bits)


def squeeze(path: Path) -> None:
    """One table and its groups, in place; those that are small already stay as they are."""
    table = tf_vitcnn.read_table(path)
    changes = table.attrs.get(groups.ATTRIBUTE, {})
    bits = BITS.get(path.parent.name, 5)
    small = groups.Groups({column: rounded(change, bits) for column, change in changes.items()})
    if small:
        groups.with_groups(table, small)
    tf_vitcnn.write_table(path.with_suffix(""), table, read_sidecar(path))
    if small:
        packed = min((groups.to_bytes(small, kind) for kind in (ZIP_BZIP2, ZIP_LZMA)), key=len)
        path.with_suffix(f".{groups.ENDING}").write_bytes(packed)


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*/*/*.csv")):
        if path.parent.name in analyses.names():
            squeeze(path)
