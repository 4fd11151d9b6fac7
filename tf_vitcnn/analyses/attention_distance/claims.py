"""What the paper says of attention distances (Fig. 3, 4)."""

from __future__ import annotations

import numpy as np

from tf_vitcnn.errors import MissingLayer, Unanswerable
from tf_vitcnn.stats.attention import uniform_distance
from tf_vitcnn.verdicts.claim import Outcome, claim
from tf_vitcnn.verdicts.evidence import VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above, below

PROBS = "attn/probs"


def ends(result: Result) -> tuple[list[str], list[str]]:
    """The model's two lowest and two highest attention layers."""
    layers = result.structure.attention
    if len(layers) < 2:
        raise MissingLayer(f"{result.path or result.subject['name']} has {len(layers)} attention layers; needs two")
    return result.require(layers[:2]), result.require(layers[-2:])


def uniform(result: Result) -> float:
    """The distance of uniform attention in that model, in pixels."""
    patch, size = result.subject.get("patch_size"), result.subject.get("image_size")
    if not patch or not size:
        raise Unanswerable("the patch size is not recorded, so the distance of uniform attention is not known")
    rows, cols = (side // patch for side in size)
    return uniform_distance(rows, cols, (size[0] / rows, size[1] / cols))


def heads(result: Result, layer: str) -> np.ndarray:
    """The distances of a layer's heads in pixels, of those that have one."""
    rows = result.once(("rows", layer), lambda: np.flatnonzero(result.table.layer == layer))
    found = result.table["distance_px"].to_numpy()[rows]
    found = found[~np.isnan(found)]
    if len(found) == 0:
        raise Unanswerable(f"no head of {layer} in {result.path} has a distance")
    return found


def _what(layer: str, head: str) -> str:
    return f"{layer}, {head} head, share of uniform attention's distance"


@claim(
    "low-layers-local-and-global",
    "Fig. 3",
    "In each of the two lowest layers some head is below a quarter, and some head above three quarters, "
    "of the distance of uniform attention.",
    Need("attention_distance", VIT),
)
def low_layers_local_and_global(vit: Result) -> Outcome:
    """Nearest and farthest head of the two lowest layers."""
    low, unit = ends(vit)[0], uniform(vit)
    near = [below(heads(vit, layer).min() / unit, 0.25, _what(layer, "nearest")) for layer in low]
    return near + [above(heads(vit, layer).max() / unit, 0.75, _what(layer, "farthest")) for layer in low]


@claim(
    "high-layers-global",
    "Fig. 3",
    "In the two highest layers every head is above three quarters of the distance of uniform attention.",
    Need("attention_distance", VIT),
)
def high_layers_global(vit: Result) -> Outcome:
    """Nearest head of the two highest layers."""
    high, unit = ends(vit)[1], uniform(vit)
    return [above(heads(vit, layer).min() / unit, 0.75, _what(layer, "nearest")) for layer in high]


def _more_and_less(less: Result, more: Result) -> bool:
    """Trained on less and on more; without training there is neither, and any two will do."""
    fewer, seen = (r.subject.get("training_images") for r in (less, more))
    return bool(less.subject.get("random")) or bool(fewer and seen and fewer < seen)


@claim(
    "less-data-less-local",
    "Fig. 4",
    "The smallest head distance in the two lowest layers is larger for the model trained on less data.",
    Need("attention_distance", VIT),
    Need("attention_distance", VIT),
    pair=_more_and_less,
    isolates="data",
    remark="Small models are an exception: in Fig. C.5 ViT-B/32 learns to attend locally from ImageNet alone.",
)
def less_data_less_local(less: Result, more: Result) -> Outcome:
    """The nearest head of the lowest layers, in pixels, trained on less against trained on more."""
    nearest = [min(heads(result, layer).min() for layer in ends(result)[0]) for result in (less, more)]
    return above(nearest[0], nearest[1], what="nearest head, pixels")


CLAIMS = (low_layers_local_and_global, high_layers_global, less_data_less_local)
