"""Makes the committed groups small: six significant bits of each number, packed by what packs them closer.

python saved_results/squeeze.py
"""

from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_LZMA

import numpy as np

import tf_vitcnn
from tf_vitcnn.tables import groups

BITS = 6  # of a change: half a step is 1/128 of it, and an interval adds the squares of many


def rounded(change: np.ndarray) -> np.ndarray:
    """Each number to its leading bits."""
    part, exponent = np.frexp(change)
    return np.ldexp(np.round(part * 2**BITS), exponent - BITS)


def squeeze(path: Path) -> None:
    """The groups of one table, in place; those that are small already stay as they are."""
    table = tf_vitcnn.read_table(path.with_name(path.name.replace(groups.ENDING, "csv")))
    small = groups.Groups({column: rounded(change) for column, change in table.attrs[groups.ATTRIBUTE].items()})
    path.write_bytes(min((groups.to_bytes(small, kind) for kind in (ZIP_BZIP2, ZIP_LZMA)), key=len))


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob(f"*/*/*.{groups.ENDING}")):
        squeeze(path)
