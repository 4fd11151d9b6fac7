"""What taps are, for analyses: where their tokens lie on the image, which come after a residual addition."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tf_vitcnn.analyses.base import require

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject


class Grid(NamedTuple):
    """Positions of a tap: `extra` tokens without a place come first, then rows x cols in row-major order."""

    rows: int
    cols: int
    extra: int
    pitch: tuple[float, float]  # height and width in pixels of the network's input that one position stands for


def grid_of(subject: Subject, tap: str) -> Grid | None:
    """The grid of a tap [b, h, w, ...], [b, t, ...] or [b, n, q, k]; None for a tap without positions."""
    from tf_vitcnn import surgery

    layout = surgery.layout(subject, tap)
    if layout is None:
        return None
    height, width = image_size(subject)
    return Grid(layout.rows, layout.cols, len(layout.extra), (height / layout.rows, width / layout.cols))


def image_size(subject: Subject) -> tuple[int, int]:
    """Height and width of the network's input."""
    height, width = subject.model.inputs[0].shape[1:3]
    require(None not in (height, width), f"{subject.name} has no fixed input size; give --image-size")
    return int(height), int(width)


def post_residual(subject: Subject) -> list[str]:
    """The residual stream after each addition: by its name in our models, by the graph in foreign ones."""
    named = [tap for tap in subject.taps if tap.endswith(("resid/mid", "resid/post"))]
    if named:
        return named
    from tf_vitcnn import surgery

    sums = {addition.sum for addition in surgery.additions(subject.model)[0]}
    found = [tap for tap in subject.taps if tap in sums]
    require(bool(found), f"{subject.name} has no residual additions: choose layers with --taps")
    return found
