"""Proof that a checkpoint was understood: the original graph's answers against ours, or counts where there is no graph.

For a SavedModel the original's signature and our model see the same images. For an npz, arrays and parameters are
counted in the file and in the architecture (strict loading has compared every name and shape before). Checkpoints of
timm and transformers are run by these where they are installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_vitcnn.checkpoints import verify_torch
from tf_vitcnn.checkpoints.arrays import parameters
from tf_vitcnn.checkpoints.load import checked, resolved
from tf_vitcnn.checkpoints.released import is_released, opened
from tf_vitcnn.checkpoints.saved_model import variables
from tf_vitcnn.errors import BadInput

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

# Of the largest logit. float32 on CPU: implementations differ by up to 5e-6, a wrong GELU by 4e-5 and more.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Agreement:
    """What was compared, and whether it agrees."""

    lines: tuple[str, ...]
    agrees: bool | None  # None: there is nothing to compare with


def verify(spec: str, images: int = 4, seed: int = 0, python: str | None = None) -> Agreement:
    """The comparison that the spec's source allows."""
    from tf_vitcnn.checkpoints.load import load

    if is_released(spec):
        return against_library(spec, images, seed, python)
    source = resolved(spec)
    subject = load(spec)
    if source is None:
        counted = subject.provenance["parameters"]
        return Agreement((f"{spec}: {counted:,} parameters; there is no original to compare with",), None)
    if source[1].is_dir():
        return against_graph(subject, source[1], images, seed)
    return counts(subject, *source)


def against_library(spec: str, images: int, seed: int, python: str | None = None) -> Agreement:
    """Largest difference between what timm or transformers answers and our model; counts where they are missing."""
    from tf_vitcnn.checkpoints.load import load

    there, subject = opened(spec), load(spec)
    counted = f"{there.path}: {len(there.found.arrays)} arrays, {subject.provenance['parameters']:,} parameters"
    shape = (images, *subject.preprocessing.size, 3)
    batch = np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)
    library = verify_torch.LIBRARY[there.dialect]
    theirs = verify_torch.theirs(there, batch, python)
    if theirs is None:
        # strict loading has compared every name and shape
        told = f"only counted: pip install torch {library} to compare answers, or name a Python that has them: --python"
        return Agreement((counted, told), None)
    name, ours = verify_torch.ours(subject, batch)
    if theirs.shape != ours.shape:
        raise BadInput(f"{there.path}: {library} answers with {list(theirs.shape)}; {name} has {list(ours.shape)}")
    absolute = float(np.abs(theirs - ours).max())
    relative = absolute / max(float(np.abs(theirs).max()), 1e-30)
    lines = (
        counted,
        f"{name} {list(ours.shape)} of {images} random images, the original run by {library}",
        f"largest difference: absolute {absolute:.3g}, relative {relative:.3g} (at most {TOLERANCE:g} agrees)",
    )
    return Agreement(lines, bool(relative <= TOLERANCE))


def counts(subject: Subject, architecture: str, path: Path) -> Agreement:
    """Arrays and parameters in the file and in the model."""
    found, _ = checked(architecture, str(path))
    there = len(found.arrays), parameters(found.arrays)
    ours = len(subject.model.weights), subject.model.count_params()
    lines = (
        f"{path}",
        f"arrays      file {there[0]:>14,}  {subject.name} {ours[0]:>14,}",
        f"parameters  file {there[1]:>14,}  {subject.name} {ours[1]:>14,}",
    )
    return Agreement(lines, there == ours)


def against_graph(subject: Subject, folder: Path, images: int, seed: int) -> Agreement:
    """Largest difference of logits (or features) between the original's signature and our model."""
    batch = np.random.default_rng(seed).uniform(-1, 1, (images, *subject.preprocessing.size, 3)).astype(np.float32)
    if subject.preprocessing.values == "imagenet":
        batch *= 2  # the range of standardised images
    ours = _answers(subject, batch)
    tried = []
    for label, shown in _ranges(subject, batch):
        original = _original(folder, shown)
        name, theirs, mine = _comparable(folder, original, ours)
        absolute = float(np.abs(theirs - mine).max())
        relative = absolute / max(float(np.abs(theirs).max()), 1e-30)
        tried.append((relative, absolute, label, name, theirs.shape))
    relative, absolute, label, name, shape = min(tried)
    agrees = bool(relative <= TOLERANCE)
    lines = (
        f"{folder}: {len(variables(folder))} variables, {subject.provenance['parameters']:,} parameters",
        f"{name} {list(shape)} of {images} random images, original fed with {label}",
        f"largest difference: absolute {absolute:.3g}, relative {relative:.3g} (at most {TOLERANCE:g} agrees)",
    )
    return Agreement(lines, agrees)


def _answers(subject: Subject, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Logits and features of our model, as an export would answer: a distilled DeiT with the mean of two heads."""
    out = subject.model(batch, training=False)
    found = {}
    for kind in ("logits", "pre_logits", "pooled"):
        parts = [np.asarray(out[key]) for key in (f"head/{kind}", f"head/{kind}_dist") if key in out]
        if parts:
            found[{"pooled": "features"}.get(kind, kind)] = np.mean(parts, axis=0)
    return found


def _ranges(subject: Subject, batch: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The images as the original may want them: Google's BiT modules take [0, 1], others what we take."""
    yield f"values in {subject.preprocessing.values}", batch
    if subject.provenance["family"] == "bit":
        yield "values in 0..1", (batch + 1) / 2


def _original(folder: Path, batch: np.ndarray) -> list[np.ndarray]:
    """Every output of the SavedModel, by its signature, else by its call."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
        signatures = dict(getattr(loaded, "signatures", {}))
        if signatures:
            signature = signatures.get("serving_default") or next(iter(signatures.values()))
            answers: Any = signature(**{next(iter(signature.structured_input_signature[1])): tf.constant(batch)})
        else:
            answers = loaded(tf.constant(batch))
    except Exception as error:  # whatever a graph raises
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{folder}: its graph does not run ({reason}); compare on another machine") from error
    return [np.asarray(answer) for answer in tf.nest.flatten(answers)]


def _comparable(
    folder: Path, original: list[np.ndarray], ours: dict[str, np.ndarray]
) -> tuple[str, np.ndarray, np.ndarray]:
    """The output of the original that has the shape of our logits, else of our features."""
    for name, mine in ours.items():
        for theirs in original:
            if theirs.size == mine.size and theirs.shape[0] == mine.shape[0]:
                return name, theirs.reshape(mine.shape), mine
    shapes = ", ".join(str(list(answer.shape)) for answer in original)
    expected = " or ".join(f"{name} {list(mine.shape)}" for name, mine in ours.items())
    raise BadInput(f"{folder}: its graph answers with {shapes}; expected {expected}")
