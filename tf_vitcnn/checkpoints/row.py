"""One weight that an architecture stores: its name with us, its name in files, its shape."""

from typing import NamedTuple


class Row(NamedTuple):
    """One weight."""

    target: str  # `layer/weight` in our model
    key: str  # in the released files
    shape: tuple[int, ...]
