"""The claims about similarity within and across models (Fig. 1, 2, H, App. A): statistics of cka's tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import MIXER, RESNET, VIT, Need, Result
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
    v, r = (_corner(result) for result in (vit, resnet))
    return above(v, r)


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
    names = resnet.table.drop_duplicates("depth_x").set_index("depth_x").layer_x
    square = symmetric(resnet)
    stages = np.array([taps.stage_of(names[depth]) or 0 for depth in square.index])
    if len(set(stages[stages > 0])) < 2:
        return Untested("the ResNet's layers name fewer than two stages")
    quarters = np.arange(len(symmetric(vit))) * 4 // len(symmetric(vit))
    inside = square.to_numpy()[np.ix_(stages > 0, stages > 0)]  # stem and final norm belong to no stage
    return above(_contrast(inside, stages[stages > 0]), _contrast(symmetric(vit).to_numpy(), quarters))


# Fig. 2: ViT against ResNet

CROSSED = Need("cka", VIT, RESNET, SQUARE)


@claim(
    "low-half-resnet-low-quarter-vit",
    "Fig. 2",
    "For the lower half of ResNet layers, the median depth of the best matching ViT layer is below 0.35 of its depth.",
    CROSSED,
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
    best = _matrix(crossed).max(axis=1).to_numpy()  # [ViT layers]
    low, high = thirds(len(best))
    return below(np.nanmean(best[high]), np.nanmean(best[low]))


# Fig. H: MLP-Mixer


@claim(
    "mixer-two-blocks",
    "Fig. H.1",
    "The best split of the Mixer's layers into two groups puts the first group within the lowest 40 % of layers.",
    Need("cka", MIXER, parameters=SQUARE),
)
def mixer_two_blocks(mixer: Result) -> Outcome:
    """Share of layers in the first group of the split with the largest within minus across."""
    square = symmetric(mixer).to_numpy()
    n = len(square)
    if n < 6:
        return Untested(f"only {n} layers")
    contrasts = [_contrast(square, np.arange(n) >= split) for split in range(2, n - 1)]
    return below((2 + int(np.argmax(contrasts))) / n, 0.4)


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
    return above(_matrix(vit).max(axis=1).mean(), _matrix(resnet).max(axis=1).mean())


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
    truth = symmetric(reference)
    checks = []
    for other in others:
        batch, images = size(other)
        largest = float((symmetric(other) - truth).abs().to_numpy().max())
        checks.append(below(largest, 0.05, what=f"batch {batch}, {images} images"))
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


def _matrix(result: Result, value: str = "cka") -> pd.DataFrame:
    """Rows are the first subject's layers, columns the second's, both in depth order."""
    return result.table.pivot(index="depth_x", columns="depth_y", values=value).sort_index().sort_index(axis=1)


def symmetric(result: Result, value: str = "cka") -> pd.DataFrame:
    """The symmetric matrix of one model, whether the table holds one triangle or both."""
    matrix = _matrix(result, value)
    cells = matrix.to_numpy()
    return pd.DataFrame(np.where(np.isnan(cells), cells.T, cells), index=matrix.index, columns=matrix.columns)


def thirds(n: int) -> tuple[slice, slice]:
    """The lowest and the highest third of n layers."""
    size = max(1, n // 3)
    return slice(0, size), slice(n - size, n)


def _corner(result: Result) -> float:
    """Mean CKA of the lowest with the highest third."""
    square = symmetric(result)
    low, high = thirds(len(square))
    return float(np.nanmean(square.iloc[low, high].to_numpy()))


def _contrast(square: np.ndarray, labels: np.ndarray) -> float:
    """Mean within groups minus mean across groups, the diagonal left out."""
    same = labels[:, None] == labels[None, :]
    off = ~np.eye(len(labels), dtype=bool)
    return float(np.nanmean(square[same & off]) - np.nanmean(square[~same]))


def _best_depths(crossed: Result, upper: bool) -> float:
    """Median relative depth of the ViT layer that matches a layer of one half of the ResNet best."""
    matrix = _matrix(crossed).dropna(how="all").dropna(how="all", axis=1).fillna(-1).to_numpy()  # [ViT, ResNet]
    half = matrix.shape[1] // 2
    best = matrix.argmax(axis=0) / (len(matrix) - 1)
    return float(np.median(best[-half:] if upper else best[:half]))
