"""How similar are any two layers: minibatch CKA of all sublayers, within a model or across two (Fig. 1, 2, 8, 12).

Layers are flattened over all positions and channels; HSIC1 of every minibatch (stats/hsic.py) is averaged first, the
ratio taken last. The paper's setting is the default: minibatches of 1024, 10240 images, 20 draws. `cka_se` says how far
the number would move with other images of the same kind (stats/shares.py); more draws of the same images do not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from tf_vitcnn import taps as names_of
from tf_vitcnn.analyses.base import Constants, PerMinibatch, Run, Totals, View, require
from tf_vitcnn.analyses.cka import images, training_claims
from tf_vitcnn.analyses.cka.claims import CLAIMS
from tf_vitcnn.analyses.pairs import KEYS, Side, changes_of, flat_views, rows_of, sides_of
from tf_vitcnn.stats.resample import standard_error
from tf_vitcnn.tables.attached import Attached
from tf_vitcnn.tables.groups import joined, with_groups
from tf_vitcnn.tables.schema import Schema
from tf_vitcnn.verdicts.claim import Claim

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

# CKA of the unbiased estimator is not bounded by 1; with four examples it strays far
BOUND = float("inf")


@dataclass(frozen=True)
class CKA(PerMinibatch):
    """Similarity of every pair of layers."""

    name: ClassVar[str] = "cka"
    figures: ClassVar[tuple[str, ...]] = ("1", "2", "8", "12", "B.1", "G.1", "G.2", "H.1", "H.2")
    schema: ClassVar[Schema] = Schema(
        keys=KEYS,
        values={"cka": (-BOUND, BOUND), "cka_se": (0, BOUND), "cka_biased": (-BOUND, BOUND)},
        integers=("depth_x", "depth_y"),
        nullable=("cka", "cka_se", "cka_biased"),
        optional=("cka_biased",),
    )
    claims: ClassVar[tuple[Claim, ...]] = (*CLAIMS, *training_claims.CLAIMS)
    against: ClassVar[Literal["no", "may", "must"]] = "may"
    beside: ClassVar[Mapping[str, Schema]] = {images.NAME: images.SCHEMA}
    images: ClassVar[int | None] = 10240
    batch: ClassVar[int | None] = 1024

    repeats: int = 20
    """times that the images are drawn anew; the table has the mean"""
    tokens: Literal["all", "cls", "spatial"] = "all"
    """what of a layer is compared: every token, the class token, or those of the grid"""
    pairs: Literal["all", "matching"] = "all"
    """every layer with every other, or equal names only (two checkpoints of one architecture)"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the Gram products' inputs; sums stay float32"""
    biased: bool = False
    """also the literature's plain minibatch estimator, as cka_biased"""
    all_pairs: bool = False
    """of two models also the pairs of layers within each"""
    images_that_count: int = 0
    """how many images of largest influence to list for each pair of --of, as a table cka_images"""
    of: tuple[str, ...] = ()
    """pairs of layers, LAYER_X:LAYER_Y, whose images that count are listed"""

    def __post_init__(self) -> None:
        """Refuses what cannot be computed."""
        require(self.repeats >= 1, f"--repeats {self.repeats}: expected at least 1")
        require(
            self.images_that_count >= 0, f"--images-that-count {self.images_that_count}: expected a number of images"
        )
        require(
            bool(self.of) == bool(self.images_that_count),
            "--images-that-count K and --of LAYER_X:LAYER_Y go together: how many images, and of which pairs",
        )

    def parameters(self) -> dict[str, Any]:
        """The fields; those of the second table only where there is one."""
        fields = super().parameters()
        return (
            fields
            if self.images_that_count
            else {k: v for k, v in fields.items() if k not in ("images_that_count", "of")}
        )

    def default_taps(self, subject: Subject) -> list[str]:
        """All declared taps but attention's score matrices, branches times LayerScale, and the head."""
        return names_of.default(subject.taps)

    def draws(self) -> int:
        """Every repeat draws other images."""
        return self.repeats

    def product_type(self) -> str:
        """As `--precision` says; accumulation stays float32."""
        return self.precision

    def centrings(self) -> tuple[str, ...]:
        """The biased estimator comes along when asked for."""
        return ("u", "biased") if self.biased else ("u",)

    def views(self, run: Run) -> tuple[Sequence[View], Sequence[View]]:
        """Every chosen tap, flattened; with two subjects the second one's are the columns."""
        if self.pairs == "matching":
            require(len(run.subjects) == 2, "--pairs matching compares two models: name the other with --against")
        sides = flat_views(run, self.tokens)
        if self.pairs == "matching":
            both = {v.tap for v in sides[0]} & {v.tap for v in sides[1]}
            require(bool(both), f"{run.subjects[0].name} and {run.subjects[1].name} share no tap's name")
            sides = [[v for v in side if v.tap in both] for side in sides]
        return sides[0], sides[1] if len(sides) == 2 else ()

    def pairs_of_images(self, run: Run) -> Sequence[tuple[int, int]]:
        """The pairs whose images that count are wanted."""
        if not self.of:
            return ()
        return images.pairs(self.of, *self.views(run))

    def products(self, run: Run) -> frozenset[str]:
        """`--all-pairs` keeps both models' own matrices as well."""
        if self.pairs == "matching":
            return frozenset({"matching", "pairs"})
        return frozenset({"xy", "xx", "yy", "pairs"} if self.all_pairs else {"xy", "pairs"})

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per pair; empty where a layer is constant."""
        rows, columns = self.views(run)
        x, y = sides_of(run, rows, columns, totals)
        parts = [self._part(totals, "xy", x, y, run)]
        if self.all_pairs and columns:
            parts += [self._part(totals, "xx_full", x, x, run), self._part(totals, "yy_full", y, y, run)]
        table = self.schema.check(joined(parts))
        if self.of:
            dead = [bool(x.constant[i] or y.constant[j]) for i, j in self.pairs_of_images(run)]
            beside = {images.NAME: images.table(totals, run, self.of, self.images_that_count, dead)}
            table.attrs["beside"] = Attached(beside)
        return table

    def _part(self, totals: Totals, key: str, x: Side, y: Side, run: Run) -> pd.DataFrame:
        value, change = self._value(totals, "", key, x, y), changes_of(totals, key, x, y, run)
        columns = {"cka": value, "cka_se": standard_error(change)}
        if self.biased:
            columns["cka_biased"] = self._value(totals, "biased/", key, x, y)
        table = rows_of(x, y, columns, self.pairs == "matching")
        return with_groups(table, {"cka": change.reshape(len(change), -1)})

    def _value(self, totals: Totals, prefix: str, key: str, x: Side, y: Side) -> np.ndarray:
        """The mean of the draws' CKA; [lx, ly], or [l] for matching pairs."""
        xy, xx, yy = (totals[prefix + name] for name in (key, x.own, y.own))
        return self._ratio(xy, xx + x.dead, yy + y.dead).mean(axis=0)

    def _ratio(self, xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
        if self.pairs == "matching":
            return _cka_of_pairs(xy, xx, yy)
        from tf_vitcnn.stats.hsic import cka

        return cka(xy, xx, yy)


def _cka_of_pairs(xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    scale = np.asarray(xx, np.float64) * yy
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, xy / np.sqrt(np.maximum(scale, 0)), np.nan)
