"""The claims about similarity within and across models (Fig. 1, 2, H, App. A): statistics of cka's tables."""

from __future__ import annotations

import numpy as np

from tf_vitcnn import taps
from tf_vitcnn.errors import MissingLayer, Unanswerable
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import MIXER, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.structure import structure_of
from tf_vitcnn.verdicts.verdict import above, below, between

SQUARE = {"tokens": ("all", None), "pairs": lambda pairs: pairs != "matching"}


# Fig. 1: within a model


@claim(
    "uniform-vit",
    "Fig. 1",
    "Mean CKA between the lowest and the highest third of layers is larger in the ViT than in the ResNet.",
    Need("cka", VIT, parameters=SQUARE),
    Need("cka", RESNET, parameters=SQUARE),
)
def uniform_vit(vit: Result, resnet: Result) -> Outcome:
    """Lowest against highest third, ViT and ResNet."""
    return above(_corner(matrix(vit)), _corner(matrix(resnet)))


@claim(
    "resnet-stages",
    "Fig. 1",
    "Mean CKA within stages minus mean CKA across stages is larger in the ResNet than the same contrast over equal "
    "quarters of the ViT.",
    Need("cka", RESNET, parameters=SQUARE),
    Need("cka", VIT, parameters=SQUARE),
)
def resnet_stages(resnet: Result, vit: Result) -> Outcome:
    """Contrast of the ResNet's stages against contrast of the ViT's quarters."""
    stages = resnet.once("stages", lambda: _stages(resnet))
    if len(set(stages[stages > 0])) < 2:
        return Untested("the ResNet has fewer than two stages")
    inside = matrix(resnet)[np.ix_(stages > 0, stages > 0)]  # stem and final norm belong to no stage
    whole = matrix(vit)
    quarters = np.arange(len(whole)) * 4 // len(whole)
    return above(_contrast(inside, stages[stages > 0]), _contrast(whole, quarters))


# Fig. 2: ViT against ResNet

CROSSED = Need("cka", VIT, RESNET, SQUARE)


@claim(
    "low-half-resnet-low-quarter-vit",
    "Fig. 2",
    "For the lower half of ResNet layers, the median depth of the best matching ViT layer is below 0.35 of its depth.",
    CROSSED,
    jumps=True,
)
def low_half(crossed: Result) -> Outcome:
    """Median relative depth of the best matches of the lower half."""
    return below(_best_depths(crossed, upper=False), 0.35)


@claim(
    "top-half-resnet-next-third-vit",
    "Fig. 2",
    "For the upper half of ResNet layers, the median depth of the best matching ViT layer lies between 0.25 and 0.7 "
    "of its depth, above that of the lower half.",
    CROSSED,
    jumps=True,
)
def top_half(crossed: Result) -> Outcome:
    """Median relative depth of the best matches of the upper half, and of the lower half."""
    top, low = _best_depths(crossed, upper=True), _best_depths(crossed, upper=False)
    return [between(top, 0.25, 0.7, what="upper half"), above(top, low, what="upper half over lower half")]


@claim(
    "vit-top-differs",
    "Fig. 2",
    "The best match over all ResNet layers is lower for ViT layers of the last third than of the first third.",
    CROSSED,
)
def vit_top_differs(crossed: Result) -> Outcome:
    """Mean best match of the last third of ViT layers against that of the first third."""
    best = _best(crossed)  # [ViT layers]
    low, high = thirds(len(best))
    return below(np.nanmean(best[high]), np.nanmean(best[low]))


# Fig. H: MLP-Mixer


@claim(
    "mixer-two-blocks",
    "Fig. H.1",
    "The best split of the Mixer's layers into two groups puts the first group within the lowest 40 % of layers.",
    Need("cka", MIXER, parameters=SQUARE),
    jumps=True,
)
def mixer_two_blocks(mixer: Result) -> Outcome:
    """Share of layers in the first group of the split with the largest within minus across."""
    square = matrix(mixer)
    if len(square) < 6:
        return Untested(f"only {len(square)} layers")
    return below((2 + int(np.nanargmax(_splits(square)[2:-1]))) / len(square), 0.4)


@claim(
    "mixer-like-vit",
    "Fig. H.2",
    "The mean over Mixer layers of the best match in the ViT exceeds that in the ResNet.",
    Need("cka", MIXER, VIT, SQUARE),
    Need("cka", MIXER, RESNET, SQUARE),
    pair=lambda vit, resnet: vit.subject.get("weights_sha256") == resnet.subject.get("weights_sha256"),
)
def mixer_like_vit(vit: Result, resnet: Result) -> Outcome:
    """Mean best match in the ViT against that in the ResNet."""
    return above(np.nanmean(_best(vit)), np.nanmean(_best(resnet)))


# App. A

VARIED = ("images", "batch", "repeats", "seed")


def _setting(result: Result) -> tuple[str, ...]:
    """What the tables of one model share, however many images they took from a source and in whatever minibatches."""
    data = result.sidecar.get("data") or {}
    rest = sorted((k, v) for k, v in result.parameters.items() if k not in VARIED)
    return str(result.subject.get("weights_sha256")), str(data.get("fingerprint") or data.get("spec")), repr(rest)


@claim(
    "cka-settings-do-not-matter",
    "App. A",
    "The largest change of any entry between batch 1024 x 10240 and batch 128, or 2560 examples x 10, is below 0.05.",
    Need("cka", parameters=SQUARE, many=True, group=_setting),
    pair=lambda settings: len(settings) > 1,
    varies=VARIED,
)
def cka_settings_do_not_matter(settings: list[Result]) -> Outcome:
    """Largest change of any entry from the setting with the largest batch and most images."""

    def size(result: Result) -> tuple[int, int]:
        return result.parameters.get("batch") or 0, (result.parameters.get("images") or 0)

    *others, reference = sorted(settings, key=size)
    truth = matrix(reference)
    checks = []
    for other in others:
        batch, images = size(other)
        changed = matrix(other)
        if changed.shape != truth.shape:
            return Untested(f"{other.path} and {reference.path} have other layers")
        checks.append(below(np.nanmax(np.abs(changed - truth)), 0.05, what=f"batch {batch}, {images} images"))
    return checks


CLAIMS = (
    uniform_vit,
    resnet_stages,
    low_half,
    top_half,
    vit_top_differs,
    mixer_two_blocks,
    mixer_like_vit,
    cka_settings_do_not_matter,
)


# Statistics


def layers(result: Result, side: str = "x") -> list[str]:
    """The layers that the walk takes by default, in depth order: a table of chosen taps must have all of them."""
    return result.once(("layers", side), lambda: _layers(result, side))


def _layers(result: Result, side: str) -> list[str]:
    named = result.table.drop_duplicates(f"depth_{side}").sort_values(f"depth_{side}")
    there = taps.default(list(named[f"layer_{side}"]))
    # the other subject's may stand first: a comparison is read from either side
    if any(result.parameters.get(name) is not None for name in ("taps", "against_taps")):
        record = result.sidecar["subjects"][-1 if side == "y" else 0]
        lacking = [tap for tap in taps.default(record.get("taps") or []) if tap not in set(there)]
        if lacking:
            raise MissingLayer(
                f"{result.path} has {len(there)} layers of {record['name']}, chosen by --taps; {len(lacking)} are "
                f"lacking, {lacking[0]} first"
            )
    return there


def matrix(result: Result) -> np.ndarray:
    """CKA [first subject's layers, second's], in depth order; of one model symmetric, whatever the table holds."""
    rows, x, y, shape = result.once("cells", lambda: _cells(result))
    cells = np.full(shape, np.nan)
    cells[x, y] = result.table["cka"].to_numpy()[rows]
    return np.where(np.isnan(cells), cells.T, cells) if len(result.sidecar["subjects"]) == 1 else cells


def _cells(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """The rows of the wanted layers and their places in the matrix."""
    places = [{layer: i for i, layer in enumerate(layers(result, side))} for side in "xy"]
    x, y = (
        result.table[f"layer_{side}"].map(place).to_numpy(np.float64) for side, place in zip("xy", places, strict=True)
    )
    rows = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    if len(rows) == 0:
        raise Unanswerable(f"{result.path} has no pair of the layers that it speaks of")
    return rows, x[rows].astype(int), y[rows].astype(int), (len(places[0]), len(places[1]))


def thirds(n: int) -> tuple[slice, slice]:
    """The lowest and the highest third of n layers."""
    size = max(1, n // 3)
    return slice(0, size), slice(n - size, n)


def _corner(square: np.ndarray) -> float:
    """Mean CKA of the lowest with the highest third."""
    return float(np.nanmean(square[thirds(len(square))]))


def _stages(resnet: Result) -> np.ndarray:
    """The stage of each layer, 0 outside of stages."""
    structure = structure_of(resnet.subject)
    units = [structure.unit_of(layer) for layer in layers(resnet)]
    return np.array([unit.stage if unit else 0 for unit in units])


def _contrast(square: np.ndarray, labels: np.ndarray) -> float:
    """Mean within groups minus mean across groups, the diagonal left out."""
    same = labels[:, None] == labels[None, :]
    off = ~np.eye(len(labels), dtype=bool)
    return float(np.nanmean(square[same & off]) - np.nanmean(square[~same]))


def _splits(square: np.ndarray) -> np.ndarray:
    """Mean within two groups minus mean across them, for every split of the layers: [layers + 1]."""
    off = ~np.eye(len(square), dtype=bool) & ~np.isnan(square)
    parts = []
    for cells in (np.where(off, square, 0.0), off.astype(float)):  # sums and counts
        total = np.zeros((len(square) + 1,) * 2)
        total[1:, 1:] = cells.cumsum(axis=0).cumsum(axis=1)
        low, cross, whole = np.diag(total), total[:, -1], total[-1, -1]
        across = 2 * (cross - low)  # the matrix is symmetric
        parts.append((whole - across, across))
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts[0][0] / parts[1][0] - parts[0][1] / parts[1][1]


def _best(crossed: Result) -> np.ndarray:
    """Of each layer of the first subject the best match in the second; NaN for a constant one."""
    cells = np.where(np.isnan(found := matrix(crossed)), -np.inf, found).max(axis=1)
    return np.where(np.isinf(cells), np.nan, cells)


def _best_depths(crossed: Result, upper: bool) -> float:
    """Median relative depth of the ViT layer that matches a layer of one half of the ResNet best."""
    found = matrix(crossed)  # [ViT, ResNet]
    found = found[:, ~np.isnan(found).all(axis=0)][~np.isnan(found).all(axis=1)]
    half = found.shape[1] // 2
    best = np.where(np.isnan(found), -1, found).argmax(axis=0) / (len(found) - 1)
    return float(np.median(best[-half:] if upper else best[:half]))
