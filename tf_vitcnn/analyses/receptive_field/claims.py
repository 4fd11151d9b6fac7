"""What the paper says of receptive fields (Fig. 6, C.4), and the geometry it takes.

A tap's own position is the centre position that the gradients start from, floor(h/2), floor(w/2) on its grid: for a
grid of even size that lies half a position below and right of the image's centre.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import RESNET, VIT, Need, Result, flat
from tf_vitcnn.verdicts.verdict import above, below

POST = ("resid/mid", "resid/post")


def map_of(table: pd.DataFrame, layer: str) -> np.ndarray:
    """The shares of a layer's map, [rows, cols] of cells."""
    return table[table.layer == layer].pivot(index="row", columns="col", values="gradient").to_numpy()


def centre(layer: str, subject: dict) -> tuple[float, float]:
    """The middle of the tap's own position, in pixels."""
    y, x = ((n // 2 + 0.5) * side / n for n, side in zip(_grid(layer, subject), subject["image_size"], strict=True))
    return y, x


def _grid(layer: str, subject: dict) -> tuple[int, int]:
    height, width = subject["image_size"]
    stage = taps.stage_of(layer)
    if stage is not None:
        return -(-height // 2 ** (stage + 1)), -(-width // 2 ** (stage + 1))
    return height // subject["patch_size"], width // subject["patch_size"]


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
    layers = result.layers
    layers = layers[layers.layer.str.endswith(POST)]
    deepest = max(len(result.subject.get("taps") or ()) - 1, int(result.table.depth.max()), 1)
    size = result.subject["image_size"]
    shares = [
        1 - share_inside(map_of(result.table, layer), centre(layer, result.subject), side, size)
        for layer in layers.layer
    ]
    return pd.Series(shares, index=layers.depth.to_numpy() / deepest, dtype="float64").dropna()


def steepest(shares: pd.Series, span: float = 1 / 6) -> float:
    """The largest rise within a span of relative depth, as part of the total rise; NaN if it does not rise."""
    depth, value = shares.index.to_numpy(), shares.to_numpy()
    total = value[-1] - value[0]
    gap, rise = depth[None, :] - depth[:, None], value[None, :] - value[:, None]
    return float(rise[(gap >= 0) & (gap <= span + 1e-9)].max() / total) if total > 0 else float("nan")


def _same_channels(vit: Result, resnet: Result) -> bool:
    """Tables of the residual stream, not of branches alone."""
    return all(r.table.layer.str.endswith(POST).any() for r in (vit, resnet))


@claim(
    "vit-low-larger",
    "Fig. 6",
    "At one quarter of depth the share of the gradient outside a square of the ViT's patch size around the tap's own "
    "position is larger in the ViT than in the ResNet.",
    Need("receptive_field", VIT),
    Need("receptive_field", RESNET),
    pair=_same_channels,
)
def vit_low_larger(vit: Result, resnet: Result) -> Outcome:
    """The layer nearest to a quarter of depth in each."""
    side = vit.subject["patch_size"]
    ours, theirs = (s.iloc[np.abs(s.index - 0.25).argmin()] for s in (outside(vit, side), outside(resnet, side)))
    return above(ours, theirs, what="share outside at a quarter of depth, against the ResNet's")


@claim(
    "vit-turns-global-midway",
    "Fig. 6",
    "Over depth, the largest rise of the ViT's share outside that square within one sixth of depth exceeds half of its "
    "total rise; the ResNet's does not.",
    Need("receptive_field", VIT),
    Need("receptive_field", RESNET),
    pair=_same_channels,
)
def vit_turns_global_midway(vit: Result, resnet: Result) -> Outcome:
    """The steepest sixth of each, as part of its whole rise."""
    side = vit.subject["patch_size"]
    parts = [steepest(outside(result, side)) for result in (vit, resnet)]
    if np.isnan(parts).any():
        return Untested("the share outside the square does not rise over depth")
    what = "largest rise within a sixth of depth as part of the whole"
    return [above(parts[0], 0.5, what=f"ViT: {what}"), below(parts[1], 0.5, what=f"ResNet: {what}")]


def _one_model(result: Result) -> Hashable:
    subject = result.subject
    return subject.get("name"), subject.get("weights_sha256"), result.sidecar.get("data", {}).get("spec")


def _joined(results: Sequence[Result]) -> tuple[pd.DataFrame, dict]:
    """The layers of several tables of one model (post-residual and pre-residual ones), each layer once."""
    tables, seen = [], set[str]()
    for result in flat(results):
        tables.append(result.table[~result.table.layer.isin(seen)])
        seen |= set(result.table.layer)
    return pd.concat(tables), results[0].subject


@claim(
    "branch-shrinks-at-stages",
    "Fig. C.4",
    "In the ResNet, the radius that holds half of the gradient is smaller in branch/out of the first unit of stages "
    "2 to 4 than in the unit before, and not so in resid/post.",
    Need("receptive_field", RESNET, many=True, group=_one_model),
)
def branch_shrinks_at_stages(results: Sequence[Result]) -> Outcome:
    """Radius in the first unit over radius in the unit before, for branches and for the stream."""
    table, subject = _joined(results)
    units = sorted({taps.block_of(tap) for tap in subject["taps"] if taps.stage_of(tap) is not None})
    first = [i for i, unit in enumerate(units) if unit.endswith("unit00") and i > 0]
    checks = []
    for site, test in (("branch/out", below), ("resid/post", above)):
        for i in first:
            pair = [f"{units[i]}/{site}", f"{units[i - 1]}/{site}"]
            if not set(pair) <= set(table.layer):
                return Untested(f"needs receptive fields of {' and '.join(pair)}: --taps '*/branch/out' '*/resid/post'")
            now, before = (
                radius_of_half(map_of(table, tap), centre(tap, subject), subject["image_size"]) for tap in pair
            )
            checks.append(test(now / before, 1, what=f"radius of half the gradient, {pair[0]} over {pair[1]}"))
    return checks


@claim(
    "residual-keeps-centre",
    "Fig. C.4",
    "The centre patch's share is larger after the residual addition than in attn/out of the same block, in most blocks "
    "of the upper half.",
    Need("receptive_field", VIT, many=True, group=_one_model),
)
def residual_keeps_centre(results: Sequence[Result]) -> Outcome:
    """Part of the upper half's blocks in which the addition raises the centre patch's share."""
    table, subject = _joined(results)
    blocks = sorted({taps.block_of(tap) for tap in subject["taps"] if tap.startswith("block")})
    raised = []
    for block in blocks[len(blocks) // 2 :]:
        pair = [f"{block}/resid/mid", f"{block}/attn/out"]
        if not set(pair) <= set(table.layer):
            return Untested(f"needs receptive fields of {' and '.join(pair)}: --taps '*/attn/out' '*/resid/mid'")
        after, branch = (
            share_inside(map_of(table, tap), centre(tap, subject), subject["patch_size"], subject["image_size"])
            for tap in pair
        )
        raised.append(after > branch)
    return above(float(np.mean(raised)), 0.5, what="part of the upper half's blocks")


CLAIMS = (vit_low_larger, vit_turns_global_midway, branch_shrinks_at_stages, residual_keeps_centre)
