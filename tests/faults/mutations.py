"""Valid files, damaged: what a bad disk, a cut download or a stranger with a hex editor makes of them."""

import io
import struct
import zipfile
from collections.abc import Callable

from hypothesis import strategies as st

SIZES = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1, 2**64 - 1]
NUMBERS = [
    struct.pack(order + kind, n % 256 ** struct.calcsize(kind)) for n in SIZES for kind in "HIQ" for order in "<>"
]

payload = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(NUMBERS))
place = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))  # heads and directories stand at the ends
operation = st.one_of(
    st.tuples(st.just("overwrite"), place, payload),
    st.tuples(st.just("insert"), place, payload),
    st.tuples(st.just("flip"), place, st.integers(0, 7)),
    st.tuples(st.just("cut"), place, st.none()),
    st.tuples(st.just("remove"), place, st.integers(1, 64)),
    st.tuples(st.just("repeat"), place, st.integers(1, 64)),
)
operations = st.lists(operation, min_size=1, max_size=4)


def damaged(data: bytes, steps: list) -> bytes:
    """The bytes after those operations."""
    for kind, where, what in steps:
        at = int(where * len(data))
        if kind == "overwrite":
            data = data[:at] + what + data[at + len(what) :]
        elif kind == "insert":
            data = data[:at] + what + data[at:]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << what]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "remove":
            data = data[:at] + data[at + what :]
        elif kind == "repeat":
            data = data[: at + what] + data[at:]
    return data


def inside(archive: bytes, member: int, change: Callable[[bytes], bytes]) -> bytes:
    """A zip whose member was changed, packed again with a right checksum: the damage reaches the next reader."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        for i, name in enumerate(names):
            data = old.read(name)
            new.writestr(old.getinfo(name), change(data) if i == member % len(names) else data)
    return out.getvalue()
