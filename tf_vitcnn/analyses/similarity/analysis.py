"""Does the finding depend on the measure: rank correlation, shared neighbours and Procrustes beside CKA.

After the paper. The same pairs of layers as `cka`, from the same Gram matrices (definitions: stats/measures.py):
sums over minibatches first, the ratio last. Named together with `cka`, the Grams of a pass are made once for both.
Procrustes wants a decomposition for every pair, so it is computed for the outputs of blocks unless asked otherwise.
`knn_se` takes an image for what it is to its neighbours and they to it; simulated, it is up to a fifth too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd

from tf_vitcnn import taps as names_of
from tf_vitcnn.analyses.base import Constants, PerMinibatch, Run, Totals, View, require
from tf_vitcnn.analyses.pairs import KEYS, Side, changes_of, flat_views, rows_of, sides_of
from tf_vitcnn.analyses.similarity.claims import CLAIMS
from tf_vitcnn.stats.resample import standard_error
from tf_vitcnn.tables.groups import with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject
    from tf_vitcnn.verdicts.claim import Claim

BOUND = float("inf")  # unbiased estimates are not bounded
BLOCKS = ("resid/post", "final/ln/out", "final/norm/out")


@dataclass(frozen=True)
class Similarity(PerMinibatch):
    """Every pair of layers by four measures."""

    name: ClassVar[str] = "similarity"
    schema: ClassVar[Schema] = Schema(
        keys=KEYS,
        values={
            **{"cka": (-BOUND, BOUND), "rsa": (-1, 1), "knn": (-1, 1), "procrustes": (0, 1)},
            **{f"{measure}_se": (0, BOUND) for measure in ("cka", "rsa", "knn")},
        },
        integers=("depth_x", "depth_y"),
        nullable=("cka", "rsa", "knn", "procrustes", "cka_se", "rsa_se", "knn_se"),
        optional=("procrustes", "cka_se", "rsa_se", "knn_se"),
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    against: ClassVar[Literal["no", "may", "must"]] = "may"
    images: ClassVar[int | None] = 2560
    batch: ClassVar[int | None] = 256
    least: ClassVar[int] = 12  # an image, its ten neighbours and one that is none

    repeats: int = 1
    """How many times the images are drawn anew."""
    tokens: Literal["all", "cls", "spatial"] = "all"
    """Which tokens are compared."""
    procrustes: Literal["blocks", "all", "none"] = "blocks"
    """For which layers: it takes a decomposition for every pair."""

    def __post_init__(self) -> None:
        """Refuses what cannot be computed."""
        require(self.repeats >= 1, f"--repeats {self.repeats}: expected at least 1")

    def default_taps(self, subject: Subject) -> list[str]:
        """All declared taps but attention's score matrices, branches times LayerScale, and the head."""
        return names_of.default(subject.taps)

    def draws(self) -> int:
        """Every repeat draws other images."""
        return self.repeats

    def centrings(self) -> tuple[str, ...]:
        """Centred Grams, ranks of distances, nearest neighbours."""
        return ("u", "rsa", "knn")

    def views(self, run: Run) -> tuple[Sequence[View], Sequence[View]]:
        """Every chosen tap, flattened; with two subjects the second one's are the columns."""
        sides = [[self._measured(view) for view in side] for side in flat_views(run, self.tokens)]
        return sides[0], sides[1] if len(sides) == 2 else ()

    def _measured(self, view: View) -> View:
        wanted = self.procrustes == "all" or (self.procrustes == "blocks" and view.tap.endswith(BLOCKS))
        return replace(view, also=("procrustes",)) if wanted else view

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per pair; empty where a layer is constant, or has no Procrustes."""
        from tf_vitcnn.stats import measures

        rows, columns = self.views(run)
        x, y = sides_of(run, rows, columns, totals)
        shared = _ratio(totals, "knn/", x, y)
        chance = measures.NEIGHBOURS / (run.batch - 1)
        values = {"cka": _ratio(totals, "", x, y), "rsa": _ratio(totals, "rsa/", x, y)}
        values["knn"] = measures.beyond_chance(shared, run.batch)
        forms = {"cka": "", "rsa": "rsa/", "knn": "knn/"}
        changes = {name: changes_of(totals, "xy", x, y, run, prefix) for name, prefix in forms.items()}
        changes["knn"] /= 1 - chance
        errors = {f"{name}_se": standard_error(change) for name, change in changes.items()}
        if "procrustes/xy" in totals:
            values["procrustes"] = _placed(totals, rows, columns or rows)
        table = rows_of(x, y, {**values, **errors})
        return self.schema.check(with_groups(table, {n: c.reshape(len(c), -1) for n, c in changes.items()}))


def _ratio(totals: Totals, prefix: str, x: Side, y: Side) -> np.ndarray:
    """The mean over draws of xy / sqrt(xx yy), [lx, ly]."""
    from tf_vitcnn.stats.hsic import cka

    xy, xx, yy = (totals[prefix + name] for name in ("xy", x.own, y.own))
    return cka(xy, xx + x.dead, yy + y.dead).mean(axis=0)


def _placed(totals: Totals, rows: Sequence[View], columns: Sequence[View]) -> np.ndarray:
    """Procrustes where it was computed, NaN elsewhere, [lx, ly]."""
    from tf_vitcnn.stats import measures

    at = [[i for i, view in enumerate(side) if "procrustes" in view.also] for side in (rows, columns)]
    whole = np.full((len(rows), len(columns)), np.nan)
    if not all(at):  # a network without blocks has no layer to compare
        return whole
    mean = totals["procrustes/xy"].sum(axis=0) / totals["count"].sum()
    whole[np.ix_(*at)] = measures.procrustes(mean)
    return whole
