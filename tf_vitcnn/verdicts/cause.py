"""Whether two subjects differ in one cause alone: architecture, training data and recipe, by their records.

A claim that traces a difference to a cause (`isolates`) is tested only on subjects that agree in all else. What may
differ with each cause is listed once, in CAUSES. Seeds always may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_vitcnn.verdicts.structure import family

Subject = Mapping[str, Any]


class Cause(NamedTuple):
    """What may differ: facts of the subjects, and entries of their recipes."""

    words: str
    facts: tuple[str, ...]
    recipe: tuple[str, ...] = ()


DATA = ("training images", "trained on", "fraction")
SHAPE = ("architecture", "pool", "skips cut", "image size")
CAUSES = {
    "pool": Cause("pooling", ("pool",), ("pool", "rate")),  # the paper trains pooled models with a lower rate
    "data": Cause("the amount of data", DATA, ("epochs", "batch")),  # fewer images, more passes of smaller minibatches
    "size": Cause("size", ("architecture",), ("patch", "width", "depth", "heads", "mlp", "tokens_mlp", "units")),
    "skips": Cause("the skips", ("skips cut",), ("no_skip",)),
    "tuning": Cause("fine-tuning", (*DATA, "fine-tuned from", "recipe", "image size")),
    "network": Cause("the network", (*SHAPE, "fine-tuned from", "recipe")),
}
# entries of a recipe that are facts of their own, or no cause of anything
NOT_RECIPE = ("model", "data", "val", "seed", "fraction", "from", "image_size", "precision")
RELEASES = ("sam", "gsam", "augreg", "tfhub", "distilled")


def differences(a: Subject, b: Subject, cause: str) -> str:
    """What differs beside the cause, in words; empty if nothing does."""
    allowed = CAUSES[cause]
    untrained = bool(a.get("random")) and bool(b.get("random"))
    left, right = (_facts(s, other, untrained) for s, other in ((a, b), (b, a)))
    found = [] if "architecture" in allowed.facts or same_body(a, b) else [f"architectures of {a['name']}, {b['name']}"]
    names = [name for name in left if name not in allowed.facts and left[name] != right[name]]
    found += [f"{name} {left[name]} of {a['name']}, {right[name]} of {b['name']}" for name in names]
    if "recipe" not in allowed.facts and not untrained:
        found += _recipes(a, b, allowed.recipe)
    return "; ".join(found)


def _facts(s: Subject, other: Subject, untrained: bool) -> dict[str, Any]:
    shape = {
        "pool": s.get("pool"),
        "skips cut": s.get("no_skip") or [],
        "image size": s.get("image_size"),
    }
    if untrained:
        return shape
    both = bool(s.get("data_fingerprint") and other.get("data_fingerprint"))
    return shape | {
        "trained on": s.get("data_fingerprint") if both else s.get("trained_on"),
        "training images": s.get("training_images"),
        "fraction": s.get("fraction") or 1.0,
        "fine-tuned from": s.get("finetuned_from"),
    }


def _recipes(a: Subject, b: Subject, free: tuple[str, ...]) -> list[str]:
    left, right = (recipe(s) for s in (a, b))
    names = [n for n in dict.fromkeys([*left, *right]) if n not in free and left.get(n) != right.get(n)]
    return [f"recipe's {n} {left.get(n)} of {a['name']}, {right.get(n)} of {b['name']}" for n in names]


def recipe(s: Subject) -> dict[str, Any]:
    """How a subject was trained, the seed left out: its card's recipe, or the family of its release."""
    recorded = s.get("recipe")
    if isinstance(recorded, Mapping):
        return {k: v for k, v in recorded.items() if k not in NOT_RECIPE}
    variant = str(s.get("variant") or "")
    return {"release": next((name for name in RELEASES if variant.startswith(name)), "")} if variant else {}


def came_from(tuned: Subject, before: Subject) -> bool:
    """Whether a subject was fine-tuned from the other: its record names that model, or its release that release.

    Of a released checkpoint `finetuned_from` is the data set before, so the other must be the checkpoint of the same
    release that was trained on that.
    """
    source = tuned.get("finetuned_from")
    if not source or before.get("random"):
        return False
    if source in (before.get("spec"), before.get("name"), before.get("weights_sha256")):
        return True
    if not tuned.get("variant") or before.get("finetuned_from") or before.get("trained_on") != source:
        return False
    # augreg's files are named after the run that they were fine-tuned from
    ours, theirs = (str(s.get("source") or "").removesuffix(".npz") for s in (tuned, before))
    return recipe(tuned) == recipe(before) and ("--" not in ours or ours.partition("--")[0] == theirs)


def same_architecture(a: Subject, b: Subject) -> bool:
    """Whether two subjects differ at most in their weights and heads."""
    return same_body(a, b) and a.get("pool") == b.get("pool") and (a.get("no_skip") or []) == (b.get("no_skip") or [])


def same_body(a: Subject, b: Subject) -> bool:
    """The same, however they are pooled and whatever skips were cut."""

    def shape(s: Subject) -> tuple:
        names = [tap for tap in s.get("taps") or () if not tap.startswith("head/")]
        return family(s), s.get("patch_size"), s.get("depth"), names

    return shape(a) == shape(b) and _same_sizes(a, b)


def _same_sizes(a: Subject, b: Subject) -> bool:
    """Widths are in no tap's name: the record has them, or the catalog's name, else the count of parameters."""
    left, right = a.get("architecture"), b.get("architecture")
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        # a card of an older version does not have a size that came later
        shared = set(left) & set(right) - {"pre_logits", "pool", "distilled"}
        return all(left[key] == right[key] for key in shared)
    names = {str(s.get("spec", "")).split("@")[0].removesuffix("_gap") for s in (a, b)}
    if len(names) == 1 and not any(n.endswith((".keras", "vit", "bit", "mixer", "deit")) for n in names):
        return True
    return _same_parameters(a, b)


def _same_parameters(a: Subject, b: Subject) -> bool:
    """As many, or what a head of another number of classes explains: a whole number for each class more."""
    if a.get("parameters") == b.get("parameters"):
        return True
    counts = [int(s.get(key) or 0) for key in ("parameters", "classes") for s in (a, b)]
    if 0 in counts or counts[2] == counts[3]:
        return False
    each, rest = divmod(counts[0] - counts[1], counts[2] - counts[3])
    return rest == 0 and each > 1
