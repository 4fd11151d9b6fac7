"""What the paper says of attention distances (Fig. 3, 4)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tf_vitcnn.stats.attention import uniform_distance
from tf_vitcnn.verdicts.cause import same_architecture
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import VIT, Need, Result
from tf_vitcnn.verdicts.verdict import Check, above, below

PROBS = "attn/probs"


def ends(result: Result) -> tuple[list[str], list[str]] | None:
    """The model's two lowest and two highest attention layers; None if the table lacks one of them."""
    declared = [tap for tap in result.subject.get("taps") or () if tap.endswith(PROBS)]
    layers = declared or list(result.layers.layer)
    wanted = layers[:2], layers[-2:]
    there = set(result.table.layer)
    return wanted if len(layers) >= 2 and all(layer in there for part in wanted for layer in part) else None


def uniform(result: Result) -> float | None:
    """The distance of uniform attention in that model, in pixels; None where the record has no patch size."""
    patch, size = result.subject.get("patch_size"), result.subject.get("image_size")
    if not patch or not size:
        return None
    rows, cols = (side // patch for side in size)
    return uniform_distance(rows, cols, (size[0] / rows, size[1] / cols))


def _head(result: Result, layer: str, least: bool) -> pd.Series:
    heads = result.table[result.table.layer == layer]
    return heads.sort_values("distance_px", ascending=least).iloc[0]  # NaN comes last either way


def _shares(result: Result, layers: list[str], least: bool, unit: float) -> list[tuple[float, str]]:
    """Of each layer the smallest or largest distance of a head, as share of uniform attention's."""
    found = []
    for layer in layers:
        head = _head(result, layer, least)
        what = f"{layer}, {'nearest' if least else 'farthest'} head, share of uniform attention's distance"
        found.append((head.distance_px / unit, what))
    return found


def _untested(result: Result) -> Untested | None:
    if ends(result) is None:
        return Untested("the table lacks the lowest or the highest attention layers")
    if uniform(result) is None:
        return Untested("the patch size is not recorded, so the distance of uniform attention is not known")
    return None


@claim(
    "low-layers-local-and-global",
    "Fig. 3",
    "In each of the two lowest layers some head is below a quarter, and some head above three quarters, "
    "of the distance of uniform attention.",
    Need("attention_distance", VIT),
)
def low_layers_local_and_global(vit: Result) -> Outcome:
    """Nearest and farthest head of the two lowest layers."""
    layers, unit = ends(vit), uniform(vit)
    if layers is None or unit is None:
        return _untested(vit) or []
    near: list[Check] = [below(v, 0.25, what) for v, what in _shares(vit, layers[0], True, unit)]
    return near + [above(v, 0.75, what) for v, what in _shares(vit, layers[0], False, unit)]


@claim(
    "high-layers-global",
    "Fig. 3",
    "In the two highest layers every head is above three quarters of the distance of uniform attention.",
    Need("attention_distance", VIT),
)
def high_layers_global(vit: Result) -> Outcome:
    """Nearest head of the two highest layers."""
    layers, unit = ends(vit), uniform(vit)
    if layers is None or unit is None:
        return _untested(vit) or []
    return [above(v, 0.75, what) for v, what in _shares(vit, layers[1], True, unit)]


def _more_and_less(less: Result, more: Result) -> bool:
    a, b = less.subject, more.subject
    if not same_architecture(a, b) or a.get("image_size") != b.get("image_size"):
        return False
    if a.get("random") and b.get("random"):
        return True  # the baseline: without training there is neither more nor less
    counts: list[Any] = [s.get("training_images") for s in (a, b)]
    return None not in counts and counts[0] < counts[1]


@claim(
    "less-data-less-local",
    "Fig. 4",
    "The smallest head distance in the two lowest layers is larger for the model trained on less data.",
    Need("attention_distance", VIT),
    Need("attention_distance", VIT),
    pair=_more_and_less,
    remark="Small models are an exception: in Fig. C.5 ViT-B/32 learns to attend locally from ImageNet alone.",
)
def less_data_less_local(less: Result, more: Result) -> Outcome:
    """The nearest head of the lowest layers, in pixels, trained on less against trained on more."""
    nearest = []
    for result in (less, more):
        layers = ends(result)
        if layers is None:
            return Untested("the table lacks the lowest attention layers")
        nearest.append(min((_head(result, layer, least=True) for layer in layers[0]), key=lambda row: row.distance_px))
    return above(nearest[0].distance_px, nearest[1].distance_px, "nearest head, pixels")


CLAIMS = (low_layers_local_and_global, high_layers_global, less_data_less_local)
