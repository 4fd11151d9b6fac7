"""What taps are, for analyses: where their vectors lie on the image, and which come after a residual addition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tf_vitcnn import taps
from tf_vitcnn.errors import BadInput, Unanswerable
from tf_vitcnn.verdicts.structure import Structure, structure_of

if TYPE_CHECKING:
    from tf_vitcnn.opening import Layout
    from tf_vitcnn.subject import Subject

THUMBNAIL = 64  # pixels of the longer side of an image's small picture


class Grid(NamedTuple):
    """Vectors of `channels` numbers: extra tokens first, then the grid row by row."""

    rows: int
    cols: int
    extra: tuple[str, ...]  # tokens without a place: cls, dist, registers
    channels: int
    kind: str  # "map" [b, rows, cols, d], "tokens" [b, t, ...] or "vector" [b, d]

    @property
    def tokens(self) -> int:
        """Positions that have a place."""
        return self.rows * self.cols

    @property
    def names(self) -> tuple[str, ...]:
        """The extra tokens' names, then `token000` ... in row order."""
        return (*self.extra, *(f"token{i:03d}" for i in range(self.tokens)))


def grid_of(subject: Subject, tap: str) -> Grid:
    """The grid of a tap of that subject."""
    grid = find_grid(subject, tap)
    if grid is None:
        raise BadInput(
            f"tap {tap} of {subject.name}, shape {tuple(subject.model.output[tap].shape)[1:]}, has no tokens or "
            "locations with a place on the image: choose others with --taps"
        )
    return grid


def find_grid(subject: Subject, tap: str) -> Grid | None:
    """The grid of a tap, None where its vectors have no place."""
    from tf_vitcnn import opening

    shape = tuple(subject.model.output[tap].shape)[1:]
    if len(shape) == 1:
        return Grid(1, 1, (), shape[0], "vector")
    place = opening.layout(subject, tap)
    if place is None:
        return None
    if shape[:-1] == (place.rows, place.cols):
        return Grid(*place, shape[-1], "map")
    tokens = len(place.extra) + place.rows * place.cols
    return Grid(*place, math.prod(shape[1:]), "tokens") if shape[0] == tokens else None


def place_of(subject: Subject, tap: str) -> Layout | None:
    """Rows, columns and extra tokens of any tap with positions, attention's pairs too; None where it has none."""
    from tf_vitcnn import opening

    return opening.layout(subject, tap)


def pitch(subject: Subject, place: Layout) -> tuple[float, float]:
    """Height and width in pixels of the network's input that one position stands for."""
    height, width = image_size(subject)
    return height / place.rows, width / place.cols


def image_size(subject: Subject) -> tuple[int, int]:
    """Height and width of the network's input."""
    height, width = subject.model.inputs[0].shape[1:3]
    if None in (height, width):
        raise BadInput(f"{subject.name} has no fixed input size; give --image-size")
    return int(height), int(width)


def thumbnail(height: int, width: int) -> tuple[int, int]:
    """Height and width of the small picture of an image that goes beside a table."""
    scale = min(1.0, THUMBNAIL / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def post_residual(subject: Subject) -> list[str]:
    """The residual stream after each addition."""
    found = _sums(subject)
    if not found:
        raise BadInput(f"{subject.name} has no residual additions: choose layers with --taps")
    return found


def streams(subject: Subject) -> list[str]:
    """The residual stream after each addition; in networks without additions the last map of each grid size."""
    if found := _sums(subject):
        return found
    last: dict[tuple[int, int], str] = {}
    for tap in taps.default(subject.taps):
        place = place_of(subject, tap) if len(subject.model.output[tap].shape) == 4 else None
        if place is not None:
            last[place.rows, place.cols] = tap
    if not last:
        raise BadInput(f"{subject.name} has no residual additions and no maps: choose layers with --taps")
    return [tap for tap in subject.taps if tap in last.values()]


def block_ends(subject: Subject) -> list[str]:
    """The ends of blocks and units: where the residual stream has received all of them."""
    ends = [tap for tap in subject.taps if tap.endswith("/resid/post")] or _structure(subject).ends
    ends = ends or [tap for tap in taps.default(subject.taps) if len(subject.model.output[tap].shape) > 2]
    if not ends:
        raise BadInput(f"{subject.name} has no block whose output could be read; choose with --taps")
    return ends


def read_out(subject: Subject) -> list[str]:
    """What a head reads: the last layer with positions after all blocks (the final norm), and what it is pooled to."""
    after = subject.taps[subject.depths[block_ends(subject)[-1]] + 1 :]
    rank = {tap: len(subject.model.output[tap].shape) for tap in after}
    positions = [tap for tap in taps.default(after) if rank[tap] > 2 and find_grid(subject, tap)]
    pooled = [tap for tap in after if rank[tap] == 2 and tap != "head/logits"]
    return [*positions[-1:], *pooled[:1]]


def _sums(subject: Subject) -> list[str]:
    """Residual sums in depth order: by their names in our models, by the graph in foreign ones."""
    named = [tap for tap in subject.taps if tap.endswith(("resid/mid", "resid/post"))]
    return named or _structure(subject).sums


def _structure(subject: Subject) -> Structure:
    """What the graph shows, as claims read it; nothing where it shows neither additions nor attention."""
    from tf_vitcnn import opening

    record = subject.provenance.get("structure") or opening.structure(subject.model)
    try:
        return structure_of({"name": subject.name, "taps": subject.taps, "structure": record})
    except Unanswerable:
        return Structure(tuple(subject.taps), ())
