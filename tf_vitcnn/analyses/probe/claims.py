"""What the paper says about linear probes (EXPERIMENTS.md), measured on tables of `probe`."""

from __future__ import annotations

import numpy as np

from tf_vitcnn.errors import Unanswerable
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import CLS_VIT, GAP_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above, below

# which readouts there are, and what concerns ResNets alone
FREE = ("tokens", "readouts", "patching", "keep_weights")


def layer_at(result: Result, share: float) -> str:
    """The end of the block or unit after which that share of them has been computed."""
    layers = result.require(result.structure.ends)
    done = np.arange(1, len(layers) + 1) / len(layers)
    return layers[int(np.argmin(np.abs(done - share)))]


def accuracy(result: Result, layer: str, readout: str) -> float:
    """Accuracy of a layer's readout."""
    row = result.once((layer, readout), lambda: _row(result, layer, readout))
    return float(result.table["accuracy"].to_numpy()[row])


def _row(result: Result, layer: str, readout: str) -> int:
    rows = np.flatnonzero((result.table.layer == layer) & (result.table.readout == readout))
    if len(rows) == 0:
        raise Unanswerable(f"{result.path or 'a probe table'} has no readout {readout}")
    return int(rows[0])


def _share_of_pooled(result: Result, layer: str, readout: str) -> float:
    pooled = accuracy(result, layer, "gap")
    if not pooled > 0:
        raise Unanswerable(f"{layer} of {result.path} is read out with accuracy 0")
    return accuracy(result, layer, readout) / pooled


def native(result: Result) -> str:
    """How the model itself reads its tokens out."""
    there = result.once("readouts", lambda: set(result.table.readout))
    return "cls" if "cls" in there and result.subject.get("pool") != "gap" else "gap"


@claim(
    "cls-model-tokens-poor",
    "Fig. 11 left",
    "At the last layer the class-token ViT's mean_token accuracy is below the pooled ViT's.",
    Need("probe", CLS_VIT, free=FREE),
    Need("probe", GAP_VIT, free=FREE),
    isolates="pool",
)
def cls_model_tokens_poor(cls: Result, gap: Result) -> Outcome:
    """Accuracy of single tokens at the last layer."""
    poor, good = (accuracy(r, layer_at(r, 1), "mean_token") for r in (cls, gap))
    return below(poor, good)


@claim(
    "resnet-locations-good-late",
    "Fig. 11 left",
    "At the last layer the ResNet's mean_token is at least 0.8 of its gap, and below 0.6 at a quarter of depth.",
    Need("probe", RESNET, free=FREE),
)
def resnet_locations_good_late(resnet: Result) -> Outcome:
    """Share of the pooled accuracy that single locations reach, late and early."""
    if resnet.structure.units[-1].grid == (1, 1):
        # every layer is pooled to the last grid
        return Untested("the ResNet's last grid has one location, which is the mean as well")
    late, early = (_share_of_pooled(resnet, layer_at(resnet, at), "mean_token") for at in (1, 0.25))
    return [above(late, 0.8, "last layer"), below(early, 0.6, "quarter of depth")]


@claim(
    "gap-tokens-alike",
    "Fig. 11 right",
    "In the pooled ViT the single token token000 reaches at least 0.9 of gap at the last layer and less than 0.8 of it "
    "at half depth.",
    Need("probe", GAP_VIT, free=FREE),
)
def gap_tokens_alike(vit: Result) -> Outcome:
    """Share of the pooled accuracy that the first token reaches, late and midway."""
    late, middle = (_share_of_pooled(vit, layer_at(vit, at), "token000") for at in (1, 0.5))
    return [above(late, 0.9, "last layer"), below(middle, 0.8, "half depth")]


def _same_model(paper: Result, none: Result) -> bool:
    return paper.subject.get("weights_sha256") == none.subject.get("weights_sha256")


@claim(
    "patching-hardly-matters",
    "App. A",
    "With and without patching the ResNet's accuracies differ by less than 0.05 at every layer.",
    Need("probe", RESNET, parameters={"patching": "paper"}, free=FREE),
    Need("probe", RESNET, parameters={"patching": "none"}, free=FREE),
    pair=_same_model,
)
def patching_hardly_matters(paper: Result, none: Result) -> Outcome:
    """The largest difference over layers and readouts."""
    ours, theirs = paper.once("places", lambda: _places(paper)), none.once("places", lambda: _places(none))
    shared = [key for key in ours if key in theirs]
    if not set(paper.require(paper.structure.ends)) <= {layer for layer, _ in shared}:
        return Untested("the two tables do not share a readout of every unit")
    a, b = (
        result.table["accuracy"].to_numpy()[[rows[key] for key in shared]]
        for result, rows in ((paper, ours), (none, theirs))
    )
    return below(np.abs(a - b).max(), 0.05)


def _places(result: Result) -> dict[tuple[str, str], int]:
    """The row of each layer's readout."""
    return {key: i for i, key in enumerate(zip(result.table.layer, result.table.readout, strict=True))}


def _more_data(more: Result, less: Result) -> bool:
    """Trained on more and on less; without training there is neither, and any two will do."""
    seen, fewer = more.subject.get("training_images"), less.subject.get("training_images")
    return bool(more.subject.get("random")) or bool(seen and fewer and seen > fewer)


@claim(
    "more-data-better-middle",
    "Fig. 13 left",
    "At half depth, the model trained on more data is more accurate.",
    Need("probe", VIT, free=FREE),
    Need("probe", VIT, free=FREE),
    pair=_more_data,
    isolates="data",
)
def more_data_better_middle(more: Result, less: Result) -> Outcome:
    """Accuracy at half depth."""
    a, b = (accuracy(r, layer_at(r, 0.5), native(r)) for r in (more, less))
    return above(a, b)


def _as_good(vit: Result, resnet: Result) -> bool:
    """Two networks that end alike; with random weights the architectures of such a pair."""
    if vit.subject.get("random"):
        return True
    try:
        final = [accuracy(r, layer_at(r, 1), native(r)) for r in (vit, resnet)]
    except Unanswerable:
        return True  # said when it is measured
    return abs(final[0] - final[1]) <= 0.05


@claim(
    "bigger-vit-better-middle",
    "Fig. 13 right",
    "At half depth the ViT is more accurate than the ResNet whose final accuracy is within 0.05 of its own.",
    Need("probe", VIT, free=FREE),
    Need("probe", RESNET, free=FREE),
    pair=_as_good,
    isolates="network",
)
def bigger_vit_better_middle(vit: Result, resnet: Result) -> Outcome:
    """Accuracy at half depth."""
    a, b = (accuracy(r, layer_at(r, 0.5), native(r)) for r in (vit, resnet))
    return above(a, b)


CLAIMS = (
    cls_model_tokens_poor,
    resnet_locations_good_late,
    gap_tokens_alike,
    patching_hardly_matters,
    more_data_better_middle,
    bigger_vit_better_middle,
)
