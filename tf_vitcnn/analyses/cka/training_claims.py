"""The claims about training (Fig. 8, 12, G): what cut skips, less data and fine-tuning change in cka's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_vitcnn.analyses.cka.claims import SQUARE, layers, matrix, thirds
from tf_vitcnn.data import domains
from tf_vitcnn.errors import MissingLayer
from tf_vitcnn.verdicts.cause import came_from
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import VIT, Need, Result, absent
from tf_vitcnn.verdicts.verdict import above, below, between

ALL_TOKENS = {"tokens": ("all", None)}


# Fig. 8: without a block's skips


def _one_middle(no_skip: list[int] | None) -> bool:
    return bool(no_skip) and len(no_skip or ()) == 1


def _cut_pair(cut: Result, whole: Result) -> bool:
    """A middle block's skips, in a network of as many blocks."""
    block, blocks = cut.subject["no_skip"][0], cut.subject.get("depth") or 0
    return blocks / 4 <= block < 3 * blocks / 4 and whole.subject.get("depth") == blocks


CUT = {**VIT, "no_skip": _one_middle}


@claim(
    "no-skip-partitions",
    "Fig. 8",
    "Without the skip connections of a middle block, mean CKA between layers before and after the block falls below "
    "half of that with them.",
    Need("cka", CUT, parameters=SQUARE),
    Need("cka", VIT, parameters=SQUARE),
    pair=_cut_pair,
    isolates="skips",
)
def no_skip_partitions(cut: Result, whole: Result) -> Outcome:
    """CKA across the block without its skips against half of that with them."""
    block = whole.once("middle", lambda: _layers_of(whole, cut.subject["no_skip"][0]))
    return below(_across(cut, block), _across(whole, block) / 2)


@claim(
    "no-skip-costs-accuracy",
    "Fig. 8",
    "Without a middle block's skips, final accuracy is 1 to 10 points lower (the paper: 4).",
    Need("cka", CUT, parameters=SQUARE),
    Need("cka", VIT, parameters=SQUARE),
    pair=_cut_pair,
    isolates="skips",
)
def no_skip_costs_accuracy(cut: Result, whole: Result) -> Outcome:
    """Points of accuracy lost, from the training's records; the error is that of two shares of validation images."""
    a, b = whole.subject.get("final_accuracy"), cut.subject.get("final_accuracy")
    if a is None or b is None:
        return Untested("a model's record has no final accuracy")
    counts = [s.get("validation_images") for s in (whole.subject, cut.subject)]
    variance = sum(p * (1 - p) / (n or math.nan) for p, n in zip((a, b), counts, strict=True))
    return between(100 * (a - b), 1, 10, what="points", own_se=100 * math.sqrt(variance))


# Fig. 12: less data


def _less_data(result: Result) -> bool:
    """A network with one that saw more; of random ones two that differ, which is what no data at all gives."""
    a, b = result.subject, result.other
    if a.get("random"):
        return a.get("weights_sha256") != b.get("weights_sha256")
    few, many = a.get("training_images"), b.get("training_images")
    return bool(few and many and few < many)


def _full_model(result: Result) -> str:
    return str(result.other.get("weights_sha256"))


SCRATCH = {**VIT, "finetuned_from": absent}
LESS_DATA = Need(
    "cka", SCRATCH, SCRATCH, ALL_TOKENS, many=True, group=_full_model, keep=_less_data, words="less data and all of it"
)


@claim(
    "data-needed-high",
    "Fig. 12",
    "Similarity to the full-data model is higher in the lower half of blocks than in the upper half, at every data "
    "fraction below 1.",
    LESS_DATA,
    isolates="data",
)
def data_needed_high(fractions: list[Result]) -> Outcome:
    """Lower against upper half of blocks, at each fraction."""
    checks = []
    for result in sorted(fractions, key=_fraction):
        blocks = _blocks(result)
        half = len(blocks) // 2
        checks.append(above(blocks[:half].mean(), blocks[-half:].mean(), what=f"{_fraction(result):.3g} of the data"))
    return checks


def _larger(large: list[Result], small: list[Result]) -> bool:
    return large[0].subject["parameters"] > small[0].subject["parameters"]


def _sizes(large: list[Result], small: list[Result]) -> Iterator[tuple[Any, Any]]:
    """The two full-data models, and the two of the smallest common fraction."""
    yield large[0].other, small[0].other
    if common := _smallest_common(large, small):
        yield common[1].subject, common[2].subject


@claim(
    "bigger-needs-more-data",
    "Fig. 12",
    "At the smallest fraction, similarity to the full-data model averaged over blocks is lower for the larger ViT.",
    LESS_DATA,
    LESS_DATA,
    pair=_larger,
    isolates="size",
    compared=_sizes,
)
def bigger_needs_more_data(large: list[Result], small: list[Result]) -> Outcome:
    """Mean over blocks at the smallest common fraction, larger against smaller ViT."""
    common = _smallest_common(large, small)
    if common is None:
        return Untested("the two sizes share no data fraction")
    share, a, b = common
    return below(_blocks(a).mean(), _blocks(b).mean(), what=f"{share:g} of the data")


def _smallest_common(large: list[Result], small: list[Result]) -> tuple[float, Result, Result] | None:
    by_fraction = [{round(_fraction(r), 3): r for r in side} for side in (large, small)]
    common = sorted(set(by_fraction[0]) & set(by_fraction[1]))
    return (common[0], by_fraction[0][common[0]], by_fraction[1][common[0]]) if common else None


# Fig. G.1: before and after fine-tuning


def _before(result: Result) -> bool:
    """A fine-tuned network against the one that it came from; of random ones two that differ."""
    a, b = result.subject, result.other
    if a.get("random"):
        return a.get("weights_sha256") != b.get("weights_sha256")
    return came_from(a, b)


def _domain(subject: Any) -> str | None:
    return subject.get("domain") or domains.of_name(subject.get("trained_on"))


def _far(result: Result) -> bool:
    """Fine-tuned on another kind of pictures than those before."""
    new, old = _domain(result.subject), _domain(result.other)
    return _before(result) and bool(result.subject.get("random") or (new and old and new != old))


def _near(result: Result) -> bool:
    """Fine-tuned on pictures of the same kind."""
    new, old = _domain(result.subject), _domain(result.other)
    return _before(result) and bool(result.subject.get("random") or (new and new == old))


@claim(
    "far-domain-changes-more",
    "Fig. G.1",
    "The mean similarity before and after fine-tuning is lower for the data set farther from the pre-training data.",
    Need("cka", VIT, VIT, ALL_TOKENS, keep=_far, words="fine-tuned on another kind of pictures"),
    Need("cka", VIT, VIT, ALL_TOKENS, keep=_near, words="fine-tuned on the same kind of pictures"),
    pair=lambda far, near: far.other.get("weights_sha256") == near.other.get("weights_sha256"),
    isolates="tuning",
    remark="Far is another kind of pictures than the pre-training's: by the data set's name, else as declared in "
    "domain.txt beside the images.",
)
def far_domain_changes_more(far: Result, near: Result) -> Outcome:
    """Mean over blocks, another kind of pictures against the same."""
    return below(_blocks(far).mean(), _blocks(near).mean())


@claim(
    "finetune-keeps-low",
    "Fig. G.1",
    "Similarity before and after fine-tuning over the first third of blocks is above 0.9 and above that of the last "
    "third.",
    Need("cka", VIT, VIT, ALL_TOKENS, keep=_before, words="after and before fine-tuning"),
    isolates="tuning",
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


def _layers_of(whole: Result, block: int) -> frozenset[str]:
    """All layers of a block; the network without its skips has the same."""
    names, units = whole.structure.taps, whole.structure.blocks[block]
    return frozenset(names[names.index(units[0].first) : names.index(units[-1].end) + 1])


def _across(result: Result, block: frozenset[str]) -> float:
    """Mean CKA between the layers before a block and those after it; the block's own layers are left out."""
    inside = [i for i, name in enumerate(layers(result)) if name in block]
    if not inside or inside[0] == 0 or inside[-1] == len(layers(result)) - 1:
        raise MissingLayer(f"{result.path} has no layers before, in and after the block without skips")
    return float(np.nanmean(matrix(result)[: inside[0], inside[-1] + 1 :]))


def _fraction(result: Result) -> float:
    if result.subject.get("random"):
        return 0.0
    return result.subject["training_images"] / result.other["training_images"]


def _blocks(result: Result) -> np.ndarray:
    """Similarity of equal layers at the end of each block, in depth order."""
    rows = result.once("ends of blocks", lambda: _rows_of_ends(result))
    return result.table["cka"].to_numpy()[rows]


def _rows_of_ends(result: Result) -> np.ndarray:
    ends = result.structure.ends
    alike = result.table[result.table.layer_x == result.table.layer_y]
    rows = dict(zip(alike.layer_x, alike.index, strict=True))
    missing = [layer for layer in ends if layer not in rows]
    if missing:
        raise MissingLayer(f"{result.path} does not compare {missing[0]}, the end of a block, in both networks")
    return np.array([rows[layer] for layer in ends])
