"""The claims about similarity (Fig. 1, 2, 8, 12, G, H, App. A): statistics of cka's tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.claims import (
    MIXER,
    RESNET,
    VIT,
    Need,
    Outcome,
    Result,
    Untested,
    above,
    absent,
    below,
    between,
    claim,
    same_architecture,
)

SQUARE = {"tokens": ("all", None), "pairs": lambda pairs: pairs != "matching"}
ALL_TOKENS = {"tokens": ("all", None)}
PRETRAINED_ALIKE = ("imagenet", "cifar", "oxford", "caltech", "food101", "stl10", "sun397", "places", "dtd", "jft")
PRETRAINED_UNLIKE = ("resisc45", "eurosat", "diabetic", "patch_camelyon", "medmnist", "svhn", "mnist", "digits")


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
    (v, v_se), (r, r_se) = (_corner(result) for result in (vit, resnet))
    return above(v, r, se=float(np.hypot(v_se, r_se)))


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
    square = _square(resnet)
    stages = np.array([taps.stage_of(names[depth]) or 0 for depth in square.index])
    if len(set(stages[stages > 0])) < 2:
        return Untested("the ResNet's layers name fewer than two stages")
    quarters = np.arange(len(_square(vit))) * 4 // len(_square(vit))
    inside = square.to_numpy()[np.ix_(stages > 0, stages > 0)]  # stem and final norm belong to no stage
    return above(_contrast(inside, stages[stages > 0]), _contrast(_square(vit).to_numpy(), quarters))


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
    low, high = _thirds(len(best))
    return below(np.nanmean(best[high]), np.nanmean(best[low]))


# Fig. 8: without a block's skips


def _one_middle(no_skip: list[int] | None) -> bool:
    return bool(no_skip) and len(no_skip or ()) == 1


def _cut_pair(cut: Result, whole: Result) -> bool:
    a, b = cut.subject, whole.subject
    block, blocks = a["no_skip"][0], a.get("depth") or 0
    middle = blocks / 4 <= block < 3 * blocks / 4
    same_data = a.get("training_images") == b.get("training_images") and a.get("trained_on") == b.get("trained_on")
    return middle and same_data and same_architecture({**a, "no_skip": []}, b)


CUT = {**VIT, "no_skip": _one_middle}


@claim(
    "no-skip-partitions",
    "Fig. 8",
    "Without the skip connections of a middle block, mean CKA between layers before and after the block falls below "
    "half of that with them.",
    Need("cka", CUT, parameters=SQUARE),
    Need("cka", VIT, parameters=SQUARE),
    pair=_cut_pair,
)
def no_skip_partitions(cut: Result, whole: Result) -> Outcome:
    """CKA across the block without its skips against half of that with them."""
    block = cut.subject["no_skip"][0]
    return below(_across(cut, block), _across(whole, block) / 2)


@claim(
    "no-skip-costs-accuracy",
    "Fig. 8",
    "Without a middle block's skips, final accuracy is 1 to 10 points lower (the paper: 4).",
    Need("cka", CUT, parameters=SQUARE),
    Need("cka", VIT, parameters=SQUARE),
    pair=_cut_pair,
)
def no_skip_costs_accuracy(cut: Result, whole: Result) -> Outcome:
    """Points of accuracy lost, from the training's records."""
    a, b = whole.subject.get("final_accuracy"), cut.subject.get("final_accuracy")
    if a is None or b is None:
        return Untested("a model's record has no final accuracy")
    return between(100 * (a - b), 1, 10, what="points")


# Fig. 12: less data


def _less_data(result: Result) -> bool:
    a, b = result.subject, result.other
    few, many = a.get("training_images"), b.get("training_images")
    return bool(few and many and few < many) and same_architecture(a, b)


def _full_model(result: Result) -> str:
    return str(result.other.get("weights_sha256"))


SCRATCH = {**VIT, "finetuned_from": absent}
LESS_DATA = Need("cka", SCRATCH, SCRATCH, ALL_TOKENS, many=True, group=_full_model, keep=_less_data)


@claim(
    "data-needed-high",
    "Fig. 12",
    "Similarity to the full-data model is higher in the lower half of blocks than in the upper half, at every data "
    "fraction below 1.",
    LESS_DATA,
)
def data_needed_high(fractions: list[Result]) -> Outcome:
    """Lower against upper half of blocks, at each fraction."""
    checks = []
    for result in sorted(fractions, key=_fraction):
        blocks = _blocks(result)
        half = len(blocks) // 2
        checks.append(above(blocks[:half].mean(), blocks[-half:].mean(), what=f"{_fraction(result):.3g} of the data"))
    return checks


@claim(
    "bigger-needs-more-data",
    "Fig. 12",
    "At the smallest fraction, similarity to the full-data model averaged over blocks is lower for the larger ViT.",
    LESS_DATA,
    LESS_DATA,
    pair=lambda large, small: large[0].subject["parameters"] > small[0].subject["parameters"],
)
def bigger_needs_more_data(large: list[Result], small: list[Result]) -> Outcome:
    """Mean over blocks at the smallest common fraction, larger against smaller ViT."""
    by_fraction = [{round(_fraction(r), 3): r for r in side} for side in (large, small)]
    common = sorted(set(by_fraction[0]) & set(by_fraction[1]))
    if not common:
        return Untested("the two sizes share no data fraction")
    a, b = (side[common[0]] for side in by_fraction)
    return below(_blocks(a).mean(), _blocks(b).mean(), what=f"{common[0]:g} of the data")


# Fig. G.1: before and after fine-tuning


def _tuned(result: Result) -> bool:
    return bool(result.subject.get("finetuned_from")) and same_architecture(result.subject, result.other)


def _before(result: Result) -> bool:
    source = str(result.subject.get("finetuned_from"))
    before = result.other
    return _tuned(result) and source in (before.get("spec"), before.get("name"), before.get("weights_sha256"))


def _domain(result: Result) -> str:
    return str(result.subject.get("trained_on") or "").lower()


def _near(result: Result) -> bool:
    return _before(result) and _domain(result).startswith(PRETRAINED_ALIKE)


def _far(result: Result) -> bool:
    return _before(result) and _domain(result).startswith(PRETRAINED_UNLIKE)


@claim(
    "far-domain-changes-more",
    "Fig. G.1",
    "The mean similarity before and after fine-tuning is lower for the data set farther from the pre-training data.",
    Need("cka", VIT, VIT, ALL_TOKENS, keep=_far),
    Need("cka", VIT, VIT, ALL_TOKENS, keep=_near),
    pair=lambda far, near: far.other.get("weights_sha256") == near.other.get("weights_sha256"),
)
def far_domain_changes_more(far: Result, near: Result) -> Outcome:
    """Mean over blocks, specialised against natural images."""
    return below(_blocks(far).mean(), _blocks(near).mean())


@claim(
    "finetune-keeps-low",
    "Fig. G.1",
    "Similarity before and after fine-tuning over the first third of blocks is above 0.9 and above that of the last "
    "third.",
    Need("cka", VIT, VIT, ALL_TOKENS, keep=_before),
)
def finetune_keeps_low(tuned: Result) -> Outcome:
    """First third of blocks, absolutely and against the last third."""
    blocks = _blocks(tuned)
    low, high = _thirds(len(blocks))
    first, last = blocks[low].mean(), blocks[high].mean()
    return [above(first, 0.9, what="first third"), above(first, last, what="first third over last third")]


# Fig. H: MLP-Mixer


@claim(
    "mixer-two-blocks",
    "Fig. H.1",
    "The best split of the Mixer's layers into two groups puts the first group within the lowest 40 % of layers.",
    Need("cka", MIXER, parameters=SQUARE),
)
def mixer_two_blocks(mixer: Result) -> Outcome:
    """Share of layers in the first group of the split with the largest within minus across."""
    square = _square(mixer).to_numpy()
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


def _setting(result: Result) -> tuple[str, ...]:
    varied = ("images", "batch", "repeats", "seed")
    rest = {k: v for k, v in result.parameters.items() if k not in varied}
    return (str(result.subject.get("weights_sha256")), repr(sorted(rest.items())), str(result.sidecar.get("data")))


@claim(
    "cka-settings-do-not-matter",
    "App. A",
    "The largest change of any entry between batch 1024 x 10240 and batch 128, or 2560 examples x 10, is below 0.05.",
    Need("cka", parameters=SQUARE, many=True, group=_setting),
    pair=lambda settings: len(settings) > 1,
)
def cka_settings_do_not_matter(settings: list[Result]) -> Outcome:
    """Largest change of any entry from the setting with the largest batch and most images."""

    def size(result: Result) -> tuple[int, int]:
        return result.parameters.get("batch") or 0, (result.parameters.get("images") or 0)

    *others, reference = sorted(settings, key=size)
    truth = _square(reference)
    checks = []
    for other in others:
        batch, images = size(other)
        largest = float((_square(other) - truth).abs().to_numpy().max())
        checks.append(below(largest, 0.05, what=f"batch {batch}, {images} images"))
    return checks


CLAIMS = (
    uniform_vit,
    resnet_stages,
    low_half,
    top_half,
    vit_top_differs,
    no_skip_partitions,
    no_skip_costs_accuracy,
    data_needed_high,
    bigger_needs_more_data,
    far_domain_changes_more,
    finetune_keeps_low,
    mixer_two_blocks,
    mixer_like_vit,
    cka_settings_do_not_matter,
)


# Statistics


def _matrix(result: Result, value: str = "cka") -> pd.DataFrame:
    """Rows are the first subject's layers, columns the second's, both in depth order."""
    return result.table.pivot(index="depth_x", columns="depth_y", values=value).sort_index().sort_index(axis=1)


def _square(result: Result, value: str = "cka") -> pd.DataFrame:
    """The symmetric matrix of one model, whether the table holds one triangle or both."""
    matrix = _matrix(result, value)
    cells = matrix.to_numpy()
    return pd.DataFrame(np.where(np.isnan(cells), cells.T, cells), index=matrix.index, columns=matrix.columns)


def _thirds(n: int) -> tuple[slice, slice]:
    size = max(1, n // 3)
    return slice(0, size), slice(n - size, n)


def _corner(result: Result) -> tuple[float, float]:
    """Mean CKA of the lowest with the highest third, and its standard error's upper bound (fully correlated cells)."""
    square = _square(result)
    low, high = _thirds(len(square))
    se = np.nan_to_num(_square(result, "cka_se").iloc[low, high].to_numpy())
    return float(np.nanmean(square.iloc[low, high].to_numpy())), float(se.mean())


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


def _across(result: Result, block: int) -> float:
    """Mean CKA between the layers before a block and those after it; the block's own layers are left out."""
    names = result.table.drop_duplicates("depth_x").sort_values("depth_x").layer_x
    inside = [i for i, name in enumerate(names) if taps.block_of(name) == f"block{block:02d}"]
    matrix = _square(result).to_numpy()
    return float(np.nanmean(matrix[: inside[0], inside[-1] + 1 :]))


def _fraction(result: Result) -> float:
    return result.subject["training_images"] / result.other["training_images"]


def _blocks(result: Result) -> np.ndarray:
    """Similarity of equal layers at the end of each block, in depth order."""
    table = result.table
    ends = table[(table.layer_x == table.layer_y) & table.layer_x.str.endswith("resid/post")]
    return ends.sort_values("depth_x").cka.to_numpy()
