"""Accuracy of linear classifiers on every layer's representation (paper, Fig. 11, 13, D.4, F.1 to F.3).

Ridge regression onto targets in {-1, 1}^C in closed form (`stats.ridge`), on tokens or their means, for all layers and
readouts in one pass over the training images and one over the test images. Features whose sums X'X, X'Y would take more
memory than themselves are kept as rows; X'X that exceed the memory are made in several passes over groups of layers.
`mean_token` is the average of the spatial tokens' accuracies (Fig. 11 left leaves the class token out too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage, Totals, require
from tf_vitcnn.analyses.layout import block_ends, read_out
from tf_vitcnn.analyses.probe import features, fit, split
from tf_vitcnn.analyses.probe.claims import CLAIMS
from tf_vitcnn.analyses.probe.features import MEAN, Reader
from tf_vitcnn.tables.groups import with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

MEMORY = 8 * 2**30  # bytes, where the run does not say
GROUP_SHARE = 0.5  # of the memory, for the features or sums of one group of layers


@dataclass(frozen=True)
class Plan:
    """The passes: which readers together, and in which form each comes to the host."""

    classes: int
    images: int  # that train, at most
    groups: tuple[tuple[Reader, ...], ...]

    def as_rows(self, reader: Reader) -> bool:
        """Whether features take less memory than their sums in float64, for both parts."""
        p = reader.grid.channels
        return self.images * 4 <= 2 * 8 * (p + self.classes)

    def nbytes(self, reader: Reader) -> int:
        """Memory of one reader's features or sums, with the probes that come of them."""
        p, sets = reader.grid.channels, len(reader.names)
        kept = self.images * p * 4 if self.as_rows(reader) else 2 * p * (p + self.classes) * 8
        return sets * (kept + p * self.classes * 4)


@dataclass(frozen=True)
class Probe(PerImage):
    """Accuracy of linear probes over depth."""

    name: ClassVar[str] = "probe"
    figures: ClassVar[tuple[str, ...]] = ("11", "13", "D.4", "F.1", "F.2", "F.3")
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "readout"),
        values={
            "accuracy": (0, 1),
            "accuracy_lo": (0, 1),
            "accuracy_hi": (0, 1),
            "l2": (0, float("inf")),
            "accuracy_se": (0, 1),
        },
        integers=("depth",),
        nullable=("l2", "accuracy_se"),  # the average over tokens has no lambda of its own; one group has no error
        optional=("accuracy_se",),
    )
    claims: ClassVar = CLAIMS
    needs_labels: ClassVar[bool] = True
    source_fields: ClassVar[tuple[str, ...]] = ("test",)

    test: str = ""
    """data spec of the test images"""
    shots: int | Literal["all"] = 10
    """training images per class"""
    readouts: tuple[str, ...] = ()
    """of cls, gap, gap_spatial, token000, mean_token; cls (where there is one) and gap unless told otherwise"""
    tokens: Literal["none", "each"] = "none"
    """a probe on every token as well, and mean_token"""
    patching: Literal["none", "paper"] = "paper"
    """space-to-depth before a feature map is pooled"""
    keep_weights: bool = False
    """keep the fitted probes beside the table, as .weights.npz"""
    weights: str = ""
    """probes that another run kept: evaluated on the test images (else on the data), nothing is fitted"""

    def parameters(self) -> dict[str, Any]:
        """The fields, and what identifies the file of kept probes."""
        kept = {"weights_sha256": fit.Kept.sha256(self.weights)} if self.weights else {}
        return {**super().parameters(), **kept}

    def default_taps(self, subject: Subject) -> list[str]:
        """The output of every block or unit, and where no single tokens are asked for what the head reads."""
        if self.weights:
            kept = fit.Kept.read(self.weights, arrays=False).taps
            return [tap for tap in subject.taps if tap in kept] or list(kept)
        plain = not self.readouts and self.tokens == "none"
        return [*block_ends(subject), *(read_out(subject) if plain else ())]

    def plan(self, run: Run) -> Plan:
        """What is probed, in which groups of layers."""
        each, patching = self.tokens == "each", self.patching == "paper"
        if self.weights:
            kept = fit.Kept.read(self.weights, arrays=False)
            return Plan(kept.classes, 0, (tuple(kept.readers(run.subject, run.taps[0])),))
        readers = features.readers(run.subject, run.taps[0], self.readouts, each, patching)
        source = run.sources["data"]
        shots = source.size if self.shots == "all" else self.shots * source.classes
        plan = Plan(source.classes, min(run.images or source.size, shots), (tuple(readers),))
        # sums are made where the model is, and wait on the host
        room = GROUP_SHARE * min(run.memory or MEMORY, run.host or MEMORY)
        groups: list[list[Reader]] = [[]]
        for reader in readers:
            if groups[-1] and sum(map(plan.nbytes, [*groups[-1], reader])) > room:
                groups.append([])
            groups[-1].append(reader)
        return Plan(plan.classes, plan.images, tuple(map(tuple, groups)))

    def held(self, run: Run) -> float:
        """The features or sums of the largest group of layers."""
        plan = self.plan(run)
        return float(max(sum(map(plan.nbytes, group)) for group in plan.groups))

    def on_device(self, run: Run) -> float:
        """One micro-batch's sums of the largest group of layers, or its probes."""
        plan = self.plan(run)

        def nbytes(reader: Reader) -> int:
            p = reader.grid.channels
            sums = 0 if plan.as_rows(reader) else 2 * p * (p + plan.classes)
            return 4 * len(reader.names) * max(sums, p * plan.classes)

        return float(max(sum(map(nbytes, group)) for group in plan.groups))

    def stages(self, run: Run) -> Sequence[Stage]:
        """Per group of layers: pivots from a micro-batch where sums are taken, training images, test images."""
        self._check(run)
        plan = self.plan(run)
        if self.weights:
            data = "test" if self.test else "data"
            return Stage("load/0", data, first=True), Stage("test/0", data)
        if len(plan.groups) > 1:
            total = sum(plan.nbytes(reader) for group in plan.groups for reader in group)
            run.note(
                f"probe: {total / 2**30:.1f} GB of features or sums, in {len(plan.groups)} passes over groups of layers"
            )
        self._note_short_classes(run)
        made = []
        for i, group in enumerate(plan.groups):
            if not all(map(plan.as_rows, group)):
                made.append(Stage(f"pivot/{i}", first=True, pick=self._pick(run)))
            made += [Stage(f"train/{i}", pick=self._pick(run)), Stage(f"test/{i}", "test")]
        return made

    def _note_short_classes(self, run: Run) -> None:
        source = run.sources["data"]
        if self.shots != "all" and run.images == source.size:
            label = source.labels()
            found = np.bincount(label[label >= 0], minlength=source.classes)
            if short := int((found < self.shots).sum()):
                run.note(f"probe: {short} of {source.classes} classes have fewer than {self.shots} training images")

    def _pick(self, run: Run) -> Any:
        spec = run.sources["data"].spec
        return lambda labels, drawn, seed: split.split(labels, drawn, seed, self.shots, spec)

    def _check(self, run: Run) -> None:
        require(
            bool(self.test or self.weights), "probe: --test names the test images, e.g. --test imagenet2012:validation"
        )
        require(self.shots == "all" or self.shots > 0, f"probe: --shots is a number above 0 or 'all', not {self.shots}")
        test, train = run.sources["test" if self.test else "data"], run.sources["data"]
        for source in (train, test):
            require(source.labels() is not None, f"{source.spec} has no labels: a probe needs a class for every image")
        if not self.weights:
            # a set without examples of the last classes numbers the others in the same way
            names = list(zip(train.class_names, test.class_names, strict=False))
            require(all(a == b for a, b in names), f"{train.spec} and {test.spec} do not have the same classes")

    def step(
        self, stage: Stage, taps: Mapping[str, Any], batch: Batch, constants: Constants, run: Run
    ) -> dict[str, Any]:
        """Features as rows or sums, or correct predictions."""
        import tensorflow as tf

        plan = self.plan(run)
        name, _, group = stage.name.partition("/")
        if name == "load":
            return {"images": tf.reduce_sum(batch.weight)}
        readers = plan.groups[int(group)]
        values = {reader: reader(taps[reader.tap]) for reader in readers}
        if name == "test":
            return fit.tested(values, batch, constants)
        if name == "pivot":
            return fit.pivots({r: x for r, x in values.items() if not plan.as_rows(r)}, batch)
        rows = {r: x for r, x in values.items() if plan.as_rows(r)}
        sums = {r: x for r, x in values.items() if not plan.as_rows(r)}
        return fit.rows(rows, batch) | fit.sums(sums, batch, constants, plan.classes)

    def constants(self, stage: Stage, totals: Totals, constants: Constants, run: Run) -> dict[str, Any]:
        """Pivots after the first micro-batch, probes after the training images, counts after the test images."""
        name, _, group = stage.name.partition("/")
        plan = self.plan(run)
        readers = plan.groups[int(group)]
        if name == "load":
            return fit.Kept.read(self.weights).arrays
        if name == "pivot":
            return {f"pivot/{r.tap}": fit.mean(totals, r) for r in readers if not plan.as_rows(r)}
        if name == "train":
            return fit.solve(readers, totals, constants, plan.classes)
        # probes of a group that is done would only fill the memory
        spent = {} if self.keep_weights else {f"weights/{r.tap}": np.zeros(0, np.float32) for r in readers}
        return {**{key: value for key, value in totals.items()}, **spent}

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """Accuracy with its errors over test images, for every layer and readout; the training images stay the same."""
        plan = self.plan(run)
        counts = {**constants, **totals}
        rows, changes = [], []
        for reader in (reader for group in plan.groups for reader in group):
            key = {"model": run.subject.name, "depth": run.subject.depths[reader.tap], "layer": reader.tap}
            found = fit.accuracies(reader, counts)
            wanted = self._wanted(reader)
            for readout in (readout for readout in found if readout in wanted):
                rows.append({**key, "readout": readout, **found[readout].columns})
                changes.append(found[readout].changes)
        table = self.schema.check(with_groups(pd.DataFrame(rows), {"accuracy": np.stack(changes, axis=1)}))
        if self.keep_weights:
            kept = fit.Kept.of(plan.classes, plan.groups, constants)
            table.attrs["files"] = {"weights.npz": kept.dump()}
        return table

    def _wanted(self, reader: Reader) -> Sequence[str]:
        if self.tokens == "each" or self.weights:
            return (*reader.names, MEAN)
        if MEAN in self.readouts:
            # tokens that only serve the average are not shown
            return [name for name in (*reader.names, MEAN) if name in (*self.readouts,)]
        return reader.names
