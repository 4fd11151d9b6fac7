"""Which images train a probe, and which of them choose its lambda."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tf_vitcnn.analyses.base import Picked
from tf_vitcnn.errors import BadInput

FIT, HELD_OUT = 0, 1
CIFAR_HELD_OUT = 5000


def few_shot(labels: np.ndarray, drawn: np.ndarray, shots: int | Literal["all"]) -> np.ndarray:
    """The first `shots` images of every class, in drawn order; images without a label are left out."""
    drawn = drawn[labels[drawn] >= 0]
    if shots == "all":
        return drawn
    label = labels[drawn]
    order = np.argsort(label, kind="stable")  # by class, in drawn order inside a class
    starts = np.r_[0, np.flatnonzero(np.diff(label[order])) + 1]
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return drawn[np.sort(order[rank < shots])]


def split(
    labels: np.ndarray | None, drawn: np.ndarray, seed: int, shots: int | Literal["all"], spec: str = ""
) -> Picked:
    """Training images with their roles: those that fit first, then the held-out ones.

    Held out is a stratified tenth: of the images in order of class every tenth. For all of CIFAR it is the last 5000
    training images (paper, appendix F).
    """
    if labels is None:
        raise BadInput(f"{spec or 'the data'} has no labels: a probe needs a class for every training image")
    drawn = few_shot(labels, drawn, shots)
    if len(drawn) < 2:
        raise BadInput(f"{spec or 'the data'}: a probe needs at least 2 labelled training images, not {len(drawn)}")
    if shots == "all" and spec.split(":")[0] in ("cifar10", "cifar100"):
        held = drawn >= len(labels) - CIFAR_HELD_OUT
    else:
        held = _stratified_tenth(labels[drawn], np.random.default_rng(seed))
    if held.all() or not held.any():
        raise BadInput(f"{spec}: the {len(drawn)} images drawn leave no part to fit or none to choose lambda by")
    indices = np.concatenate([drawn[~held], drawn[held]])
    return Picked(indices, np.repeat([FIT, HELD_OUT], [int((~held).sum()), int(held.sum())]))


def _stratified_tenth(label: np.ndarray, random: np.random.Generator) -> np.ndarray:
    shuffled = random.permutation(len(label))
    by_class = shuffled[np.argsort(label[shuffled], kind="stable")]
    held = np.zeros(len(label), bool)
    held[by_class[random.integers(min(10, len(label))) :: 10]] = True
    return held
