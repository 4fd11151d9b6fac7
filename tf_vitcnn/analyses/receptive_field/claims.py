"""What the paper says of receptive fields (Fig. 6, C.4), and the geometry it takes.

A tap's own position is the centre position that the gradients start from, floor(h/2), floor(w/2) on its grid: for a
grid of even size that lies half a position below and right of the image's centre.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd

from tf_vitcnn.errors import Unanswerable
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.structure import Unit
from tf_vitcnn.verdicts.verdict import above, below


class Maps:
    """The maps of a model's layers, of one table or of several (post-residual and pre-residual ones)."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.subject, self.structure = results[0].subject, results[0].structure
        if not self.subject.get("image_size"):
            raise Unanswerable(f"the image size of {self.subject['name']} is not recorded")
        self.size: Sequence[int] = self.subject["image_size"]
        self._where = {layer: r for r in reversed(results) for layer in set(r.layers.layer)}

    def has(self, layers: Sequence[str], *globs: str) -> None:
        """Refuses what some table would have to hold and none does; `globs` choose it where names are ours."""
        if missing := [layer for layer in dict.fromkeys(layers) if layer not in self._where]:
            ours = all(any(fnmatch.fnmatch(layer, glob) for glob in globs) for layer in missing)
            advice = " ".join(f"'{tap}'" for tap in (globs if ours else missing))
            raise Unanswerable(f"needs receptive fields of {missing[0]}: --taps {advice}")

    def of(self, layer: str) -> np.ndarray:
        """The shares of a layer's map, [rows, cols] of cells."""
        result = self._where[layer]
        rows, shape = result.once(("map", layer), lambda: _rows_of(result, layer))
        return result.table["gradient"].to_numpy()[rows].reshape(shape)

    def centre(self, unit: Unit) -> tuple[float, float]:
        """The middle of the position that a unit's gradients start from, in pixels."""
        if 0 in unit.grid:
            raise Unanswerable(f"the grid of {unit.end} is not recorded: make the table again")
        y, x = ((n // 2 + 0.5) * side / n for n, side in zip(unit.grid, self.size, strict=True))
        return y, x


def _rows_of(result: Result, layer: str) -> tuple[np.ndarray, tuple[int, int]]:
    """A map's rows in the table, from left to right and downwards, and its shape."""
    rows = np.flatnonzero(result.table.layer == layer)
    row, col = (result.table[side].to_numpy()[rows] for side in ("row", "col"))
    shape = int(row.max()) + 1, int(col.max()) + 1
    if shape[0] * shape[1] != len(rows):
        raise Unanswerable(f"the map of {layer} in {result.path} lacks cells")
    return rows[np.lexsort((col, row))], shape


def _edges(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.arange(count + 1) * size / count
    return edges[:-1], edges[1:]


def share_inside(cells: np.ndarray, middle: tuple[float, float], side: float, size: Sequence[int]) -> float:
    """Share of the gradient within a square around `middle`, in pixels; cells on its rim count by their area."""
    cover = []
    for at, count, length in zip(middle, cells.shape, size, strict=True):
        low, high = _edges(count, length)
        overlap = np.minimum(high, at + side / 2) - np.maximum(low, at - side / 2)
        cover.append(np.clip(overlap, 0, None) / (high - low))
    return float(cover[0] @ cells @ cover[1])


def radius_of_half(cells: np.ndarray, middle: tuple[float, float], size: Sequence[int]) -> float:
    """The distance from `middle`, in pixels, within which half of the gradient lies."""
    (top, bottom), (left, right) = (_edges(n, s) for n, s in zip(cells.shape, size, strict=True))
    distance = np.hypot(((top + bottom) / 2 - middle[0])[:, None], (left + right) / 2 - middle[1]).ravel()
    order = np.argsort(distance, kind="stable")
    held = np.cumsum(cells.ravel()[order])
    # between the centres of cells the share grows in proportion to the radius
    return float(np.interp(0.5 * held[-1], held, distance[order]))


def outside(result: Result, side: int) -> pd.Series:
    """Share of the gradient outside the square, by relative depth, of every layer after a residual addition."""
    maps, units = Maps([result]), result.structure.units
    result.require(result.structure.sums)
    depth = {tap: i / max(1, len(result.structure.taps) - 1) for i, tap in enumerate(result.structure.taps)}
    shares = [1 - share_inside(maps.of(unit.end), maps.centre(unit), side, maps.size) for unit in units]
    return pd.Series(shares, index=[depth[unit.end] for unit in units], dtype="float64").dropna()


def steepest(shares: pd.Series, span: float = 1 / 6) -> float:
    """The largest rise within a span of relative depth, as part of the total rise; NaN if it does not rise."""
    depth, value = shares.index.to_numpy(), shares.to_numpy()
    if len(value) < 2:
        return float("nan")
    total = value[-1] - value[0]
    gap, rise = depth[None, :] - depth[:, None], value[None, :] - value[:, None]
    return float(rise[(gap >= 0) & (gap <= span + 1e-9)].max() / total) if total > 0 else float("nan")


def _patch(vit: Result) -> int:
    """The side of the square."""
    if not vit.subject.get("patch_size"):
        raise Unanswerable(f"the patch size of {vit.subject['name']} is not recorded")
    return int(vit.subject["patch_size"])


@claim(
    "vit-low-larger",
    "Fig. 6",
    "At one quarter of depth the share of the gradient outside a square of the ViT's patch size around the tap's own "
    "position is larger in the ViT than in the ResNet.",
    Need("receptive_field", VIT),
    Need("receptive_field", RESNET),
)
def vit_low_larger(vit: Result, resnet: Result) -> Outcome:
    """The layer nearest to a quarter of depth in each."""
    side = _patch(vit)
    ours, theirs = (s.iloc[np.abs(s.index - 0.25).argmin()] for s in (outside(vit, side), outside(resnet, side)))
    return above(ours, theirs, what="share outside at a quarter of depth, against the ResNet's")


@claim(
    "vit-turns-global-midway",
    "Fig. 6",
    "Over depth, the largest rise of the ViT's share outside that square within one sixth of depth exceeds half of its "
    "total rise; the ResNet's does not.",
    Need("receptive_field", VIT),
    Need("receptive_field", RESNET),
)
def vit_turns_global_midway(vit: Result, resnet: Result) -> Outcome:
    """The steepest sixth of each, as part of its whole rise."""
    side = _patch(vit)
    parts = [steepest(outside(result, side)) for result in (vit, resnet)]
    if np.isnan(parts).any():
        return Untested("the share outside the square does not rise over depth")
    what = "largest rise within a sixth of depth as part of the whole"
    return [above(parts[0], 0.5, what=f"ViT: {what}"), below(parts[1], 0.5, what=f"ResNet: {what}")]


def _one_model(result: Result) -> Hashable:
    """Tables of one model on the same images, whatever layers each holds."""
    subject, data = result.subject, result.sidecar.get("data", {})
    settings = [result.parameters.get(name) for name in ("images", "seed", "channels")]
    return (
        subject.get("name"),
        subject.get("weights_sha256"),
        data.get("fingerprint") or data.get("spec"),
        str(settings),
    )


@claim(
    "branch-shrinks-at-stages",
    "Fig. C.4",
    "In the ResNet, the radius that holds half of the gradient is smaller in branch/out of the first unit of stages "
    "2 to 4 than in the unit before, and not so in resid/post.",
    Need("receptive_field", RESNET, many=True, group=_one_model),
)
def branch_shrinks_at_stages(results: Sequence[Result]) -> Outcome:
    """Radius in the first unit over radius in the unit before, for branches and for the stream."""
    maps = Maps(results)
    units = maps.structure.units
    first = [i for i in range(1, len(units)) if units[i].stage != units[i - 1].stage]
    if not first:
        return Untested("the ResNet has a single stage")
    sites: list[tuple[Callable[[Unit], str], Callable]] = [(lambda u: u.branch, below), (lambda u: u.end, above)]
    pairs = [(units[i], units[i - 1]) for i in first]
    maps.has([tap(unit) for tap, _ in sites for pair in pairs for unit in pair], "*/branch/out", "*/resid/post")
    checks = []
    for tap, test in sites:
        for pair in pairs:
            now, before = (radius_of_half(maps.of(tap(unit)), maps.centre(unit), maps.size) for unit in pair)
            if not before > 0:
                return Untested(f"half of the gradient of {tap(pair[1])} lies in one cell")
            what = f"radius of half the gradient, {tap(pair[0])} over {tap(pair[1])}"
            checks.append(test(now / before, 1, what=what))
    return checks


@claim(
    "residual-keeps-centre",
    "Fig. C.4",
    "The centre patch's share is larger after the residual addition than in attn/out of the same block, in most blocks "
    "of the upper half.",
    Need("receptive_field", VIT, many=True, group=_one_model),
    jumps=True,
)
def residual_keeps_centre(results: Sequence[Result]) -> Outcome:
    """Part of the upper half's blocks in which the addition raises the centre patch's share."""
    maps, side = Maps(results), _patch(results[0])
    units = [unit for unit in maps.structure.units if unit.attends]
    if len(units) < 2:
        return Untested("the ViT has fewer than two blocks")
    upper, raised = units[len(units) // 2 :], []
    maps.has([tap for unit in upper for tap in (unit.end, unit.branch)], "*/attn/out", "*/resid/mid")
    for unit in upper:
        after, branch = (
            share_inside(maps.of(tap), maps.centre(unit), side, maps.size) for tap in (unit.end, unit.branch)
        )
        raised.append(after > branch)
    return above(float(np.mean(raised)), 0.5, what="part of the upper half's blocks")


CLAIMS = (vit_low_larger, vit_turns_global_midway, branch_shrinks_at_stages, residual_keeps_centre)
