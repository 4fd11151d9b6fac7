"""The claims about training (Fig. 8, 12, G): what cut skips, less data and fine-tuning change in cka's tables."""

from __future__ import annotations

import numpy as np

from tf_vitcnn import taps
from tf_vitcnn.analyses.cka.claims import SQUARE, symmetric, thirds
from tf_vitcnn.verdicts.cause import same_architecture
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import VIT, Need, Result, absent
from tf_vitcnn.verdicts.verdict import above, below, between

ALL_TOKENS = {"tokens": ("all", None)}
PRETRAINED_ALIKE = ("imagenet", "cifar", "oxford", "caltech", "food101", "stl10", "sun397", "places", "dtd", "jft")
PRETRAINED_UNLIKE = ("resisc45", "eurosat", "diabetic", "patch_camelyon", "medmnist", "svhn", "mnist", "digits")


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
    low, high = thirds(len(blocks))
    first, last = blocks[low].mean(), blocks[high].mean()
    return [above(first, 0.9, what="first third"), above(first, last, what="first third over last third")]


CLAIMS = (
    no_skip_partitions,
    no_skip_costs_accuracy,
    data_needed_high,
    bigger_needs_more_data,
    far_domain_changes_more,
    finetune_keeps_low,
)


# Statistics


def _across(result: Result, block: int) -> float:
    """Mean CKA between the layers before a block and those after it; the block's own layers are left out."""
    names = result.table.drop_duplicates("depth_x").sort_values("depth_x").layer_x
    inside = [i for i, name in enumerate(names) if taps.block_of(name) == f"block{block:02d}"]
    matrix = symmetric(result).to_numpy()
    return float(np.nanmean(matrix[: inside[0], inside[-1] + 1 :]))


def _fraction(result: Result) -> float:
    return result.subject["training_images"] / result.other["training_images"]


def _blocks(result: Result) -> np.ndarray:
    """Similarity of equal layers at the end of each block, in depth order."""
    table = result.table
    ends = table[(table.layer_x == table.layer_y) & table.layer_x.str.endswith("resid/post")]
    return ends.sort_values("depth_x").cka.to_numpy()
