"""What the paper says about linear probes (EXPERIMENTS.md), measured on tables of `probe`."""

from __future__ import annotations

import numpy as np

from tf_vitcnn import taps
from tf_vitcnn.analyses.receptive_field.claims import _grid as grid
from tf_vitcnn.errors import Unanswerable
from tf_vitcnn.verdicts.cause import same_architecture
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import CLS_VIT, GAP_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above, below

# which readouts there are, and what concerns ResNets alone
FREE = ("tokens", "readouts", "patching", "keep_weights")


def alike(*results: Result) -> bool:
    """Whether the probes were trained and tested in the same way: their accuracies may be compared."""
    return len({(str(r.parameters.get("shots")), r.parameters.get("test")) for r in results}) == 1


def layer_at(result: Result, share: float) -> str:
    """The probed layer after which that share of the layers has been computed."""
    layers = result.layers.layer
    done = np.arange(1, len(layers) + 1) / len(layers)
    return str(layers.iloc[int(np.argmin(np.abs(done - share)))])


def accuracy(result: Result, layer: str, readout: str) -> float:
    """Accuracy of a layer's readout."""
    row = result.table.query("layer == @layer and readout == @readout")
    if row.empty:
        raise Unanswerable(f"{result.path or 'a probe table'} has no readout {readout}")
    return float(row.accuracy.iloc[0])


def native(result: Result) -> str:
    """How the model itself reads its tokens out."""
    return "cls" if (result.table.readout == "cls").any() and result.subject.get("pool") != "gap" else "gap"


@claim(
    "cls-model-tokens-poor",
    "Fig. 11 left",
    "At the last layer the class-token ViT's mean_token accuracy is below the pooled ViT's.",
    Need("probe", CLS_VIT, free=FREE),
    Need("probe", GAP_VIT, free=FREE),
    pair=alike,
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
    maps = [tap for tap in resnet.subject.get("taps") or () if taps.stage_of(tap)]
    if maps and grid(maps[-1], resnet.subject) == (1, 1):
        # every layer is pooled to the last grid
        return Untested("the ResNet's last grid has one location, which is the mean as well")
    late, early = (
        accuracy(resnet, layer, "mean_token") / accuracy(resnet, layer, "gap")
        for layer in (layer_at(resnet, 1), layer_at(resnet, 0.25))
    )
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
    late, middle = (
        accuracy(vit, layer, "token000") / accuracy(vit, layer, "gap")
        for layer in (layer_at(vit, 1), layer_at(vit, 0.5))
    )
    return [above(late, 0.9, "last layer"), below(middle, 0.8, "half depth")]


def _same_model(paper: Result, none: Result) -> bool:
    return alike(paper, none) and paper.subject.get("weights_sha256") == none.subject.get("weights_sha256")


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
    both = paper.table.merge(none.table, on=["layer", "readout"], suffixes=("", "_none"))
    if both.empty:
        return Untested("the two tables share no layer and readout")
    return below(float((both.accuracy - both.accuracy_none).abs().max()), 0.05)


def _more_data(more: Result, less: Result) -> bool:
    if not alike(more, less) or not same_architecture(more.subject, less.subject):
        return False
    if more.subject.get("random") and less.subject.get("random"):
        return True  # the baseline: neither has seen data
    seen, fewer = more.subject.get("training_images"), less.subject.get("training_images")
    return bool(seen and fewer and seen > fewer)


@claim(
    "more-data-better-middle",
    "Fig. 13 left",
    "At half depth, the model trained on more data is more accurate.",
    Need("probe", VIT, free=FREE),
    Need("probe", VIT, free=FREE),
    pair=_more_data,
)
def more_data_better_middle(more: Result, less: Result) -> Outcome:
    """Accuracy at half depth."""
    a, b = (accuracy(r, layer_at(r, 0.5), native(r)) for r in (more, less))
    return above(a, b)


def _as_good(vit: Result, resnet: Result) -> bool:
    if not alike(vit, resnet):
        return False
    if vit.subject.get("random"):
        return True  # the baseline of a pair that is chosen by its trained models
    final = [accuracy(r, layer_at(r, 1), native(r)) for r in (vit, resnet)]
    return abs(final[0] - final[1]) <= 0.05


@claim(
    "bigger-vit-better-middle",
    "Fig. 13 right",
    "At half depth the ViT is more accurate than the ResNet whose final accuracy is within 0.05 of its own.",
    Need("probe", VIT, free=FREE),
    Need("probe", RESNET, free=FREE),
    pair=_as_good,
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
