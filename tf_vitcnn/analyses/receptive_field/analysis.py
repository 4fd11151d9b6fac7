"""Which pixels one position of a layer depends on (Fig. 6, C.1 to C.4).

Effective receptive fields: the absolute gradient of each channel at the centre position with respect to the network's
input, averaged over colours, channels and images (stats/receptive_field.py), summed over cells of pixels and given as
share of the map's sum.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage, Totals, by_group, require
from tf_vitcnn.analyses.layout import image_size, place_of, streams
from tf_vitcnn.analyses.receptive_field.claims import CLAIMS
from tf_vitcnn.stats.receptive_field import Place, gradient_maps, in_cells, in_chunks
from tf_vitcnn.stats.resample import standard_error, without_each
from tf_vitcnn.tables.groups import joined, with_groups
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.subject import Subject
    from tf_vitcnn.verdicts.claim import Claim

# All activations of the rows of one chunk together; the backward pass takes about as much again.
ACTIVATION_BYTES = 2e9
FEW = 8  # channels, where all that are wanted take long
WIDEST = 4  # pixels of a cell, at most, unless told otherwise


@dataclass(frozen=True)
class ReceptiveField(PerImage):
    """Share of the gradient of each layer's centre position, on cells of the input image."""

    channels: int | Literal["all"] = 64
    """channels whose gradients are averaged, a seeded subset"""
    cell: int | None = None
    """pixels of a cell's side; the largest divisor of the patch size up to 4 unless told otherwise"""

    name: ClassVar[str] = "receptive_field"
    figures: ClassVar[tuple[str, ...]] = ("6", "C.1", "C.2", "C.3", "C.4")
    images: ClassVar[int | None] = 32
    micro: ClassVar[int | None] = 1
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "row", "col"),
        values={"gradient": (0, 1), "gradient_se": (0, math.inf)},
        integers=("depth", "row", "col"),
        nullable=("gradient", "gradient_se"),  # a layer that does not depend on the image; a single group
        optional=("gradient_se",),
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS

    def __post_init__(self) -> None:
        require(
            self.channels == "all" or (isinstance(self.channels, int) and self.channels > 0),
            f"--channels {self.channels}: expected a positive number or `all`",
        )
        require(self.cell is None or self.cell > 0, f"--cell {self.cell}: expected a positive number of pixels")

    def default_taps(self, subject: Subject) -> list[str]:
        """The residual stream after every addition that has positions; else the last map of each grid size."""
        return [tap for tap in streams(subject) if place_of(subject, tap) is not None]

    def bind(self, stage: Stage, run: Run) -> Callable[[Batch, Constants], dict[str, Any]]:
        """Sums of gradient maps in cells, [GROUPS, taps, rows, cols], driving the model itself."""
        import tensorflow as tf

        cell = self.cell_of(run.subject)
        passes = self.parts(run)

        def maps_of(image: Any) -> Any:
            return tf.concat([in_cells(one(image), cell) for one in passes], axis=0)

        def sums(batch: Batch, constants: Constants) -> dict[str, Any]:
            height, width = image_size(run.subject)
            shape = [len(run.taps[0]), height // cell, width // cell]
            # padding is not worth its backward passes
            maps = tf.map_fn(
                lambda row: tf.cond(row[1] > 0, lambda: maps_of(row[0]), lambda: tf.zeros(shape)),
                (batch.images, batch.weight),
                fn_output_signature=tf.TensorSpec(shape, tf.float32),
                parallel_iterations=1,
            )
            return {"gradient": by_group(maps, batch), "images": by_group(tf.ones_like(batch.weight), batch)}

        return sums

    def parts(self, run: Run) -> list[_Pass]:
        """The passes of one image: taps with equally many channels share theirs."""
        places = {tap: self.place_of(run, tap) for tap in run.taps[0]}
        budget = min(ACTIVATION_BYTES, run.memory / 3 if run.memory else math.inf)
        return [_Pass(run.subject, part, budget) for part in _alike(places)]

    def needs(self, run: Run) -> Sequence[str]:
        """The chosen taps; what has no positions is refused here, before anything is computed."""
        for tap in run.taps[0]:
            self.place_of(run, tap)
        self.cell_of(run.subject)
        return run.taps[0]

    def passes(self, run: Run) -> float:
        """A shared forward pass, and for every tap a backward pass that starts at its depth: half of one on average."""
        return sum(part.chunks.weight.size * (1 + len(part.places) / 2) for part in self.parts(run))

    def shorter(self) -> tuple[str, PerImage | None]:
        """A few channels: maps of a mean over channels change little with fewer."""
        if self.channels != "all" and self.channels <= FEW:
            return "", None
        return f"--channels {FEW}", replace(self, channels=FEW)

    def held(self, run: Run) -> float:
        """Activations of the widest chunk, about twice: the tape's and the backward pass' own."""
        return max(2 * part.row_bytes * part.chunks.weight.shape[1] for part in self.parts(run))

    def on_device(self, run: Run) -> float:
        """Activations of the widest chunk: what a backward pass reads, XLA keeps or computes again."""
        return max(part.row_bytes * part.chunks.weight.shape[1] for part in self.parts(run))

    def cell_of(self, subject: Subject) -> int:
        """Pixels of a cell's side: as asked for, else the largest divisor of the patch size up to WIDEST."""
        height, width = image_size(subject)
        if self.cell is not None:
            require(
                height % self.cell == width % self.cell == 0,
                f"--cell {self.cell} does not divide the image of {height} x {width} pixels",
            )
            return self.cell
        whole = math.gcd(height, width, subject.provenance.get("patch_size") or 0)
        return max(cell for cell in range(1, WIDEST + 1) if whole % cell == 0)

    def place_of(self, run: Run, tap: str) -> Place:
        """The centre position of a tap, and its channels: all, or a subset that seed and tap determine."""
        grid = place_of(run.subject, tap)
        require(
            grid is not None, f"{tap} of {run.subject.name} has no positions on the image, so it has no receptive field"
        )
        assert grid is not None
        shape = run.subject.model.output[tap].shape[1:]
        extra = len(grid.extra)
        positions = extra + grid.rows * grid.cols
        require(positions in (shape[0], shape[0] * shape[1]), f"{tap} has no axis of {positions} positions: {shape}")
        count = math.prod(shape) // positions
        channels = np.arange(count)
        if self.channels != "all" and self.channels < count:
            rng = np.random.default_rng([run.seed, zlib.crc32(tap.encode())])
            channels = np.sort(rng.choice(count, self.channels, replace=False))
        return Place(extra + grid.rows // 2 * grid.cols + grid.cols // 2, positions, channels)

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per layer and cell. Maps of a table's layers are normalised one by one."""
        share, changes = without_each({"gradient": totals["gradient"]}, _share, totals["images"] > 0)
        tables = []
        for i, tap in enumerate(run.taps[0]):
            change = changes[:, i].reshape(len(changes), -1)
            columns = {
                "model": run.subject.name,
                "depth": run.subject.depths[tap],
                "layer": tap,
                "row": np.indices(share[i].shape)[0].ravel(),
                "col": np.indices(share[i].shape)[1].ravel(),
                "gradient": share[i].ravel(),
                "gradient_se": standard_error(change),
            }
            tables.append(with_groups(pd.DataFrame(columns), {"gradient": change}))
        for tap, values in zip(run.taps[0], share, strict=True):
            if np.isnan(values).all():
                run.note(f"{tap} does not depend on the image: its receptive field is left empty")
        return self.schema.check(joined(tables))


class _Pass:
    """The part of a model that some taps need, and their places: image [h, w, 3] -> maps [taps, h, w]."""

    def __init__(self, subject: Subject, places: Mapping[str, Place], budget: float) -> None:
        self.model = subject.expose(list(places))
        self.places = places
        self.row_bytes = activation_bytes(self.model)
        rows = subject.at_once or max(1, int(budget / self.row_bytes))
        self.chunks = in_chunks(places, rows, exactly=subject.at_once is not None)

    def __call__(self, image: Any) -> Any:
        return gradient_maps(lambda x: self.model(x, training=False), image, self.places, self.chunks)


def _alike(places: Mapping[str, Place]) -> Iterator[dict[str, Place]]:
    """Neighbouring taps with equally many channels: they share a forward pass."""
    for _, part in itertools.groupby(places.items(), key=lambda item: len(item[1].channels)):
        yield dict(part)


def activation_bytes(model: keras.Model) -> float:
    """Bytes of all activations of the model for one image: what a tape holds on to, about."""
    import keras

    nodes = [node for operation in model.operations for node in operation._inbound_nodes]
    tensors = {id(t): t for node in nodes for t in keras.tree.flatten(node.output_tensors)}
    return 4.0 * sum(math.prod(size or 1 for size in t.shape[1:]) for t in tensors.values())


def _share(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Each map [taps, rows, cols] over its own sum, NaN for a map of zeros."""
    maps = sums["gradient"]
    whole = maps.sum(axis=(1, 2), keepdims=True)
    return np.where(whole > 0, maps / np.where(whole > 0, whole, 1), np.nan)
