"""What an analysis is: parameters as fields; needs, sums, table, chart and claims as methods.

Every analysis is additive. One batch of images gives a dict of sums; sums of batches, replicas, workers and resumed
runs add up in float64 on the host; `table` divides once, at the end. There are two kinds, and only two:

- `PerImage`: model -> taps -> sums, per micro-batch;
- `PerMinibatch`: sums from the Gram matrices of a whole minibatch.

Sums carry a leading axis of GROUPS groups (image position modulo GROUPS).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats.resample import GROUPS
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    import altair

    from tf_vitcnn.charts import Drawing
    from tf_vitcnn.subject import Subject
    from tf_vitcnn.verdicts.claim import Claim

Totals = Mapping[str, np.ndarray]
Constants = Mapping[str, Any]


class Batch(NamedTuple):
    """One micro-batch as a step sees it. All tensors have a static leading axis b."""

    images: Any  # [b, h, w, 3] float32, the network's input
    label: Any  # [b] int32, -1 where there is none
    weight: Any  # [b] float32, 0 for the padding of the last micro-batch
    position: Any  # [b] int32, place in the drawn order
    role: Any  # [b] int32, what the stage's `pick` says (0 unless it says more); the image's group in a minibatch


def by_group(values: Any, batch: Batch) -> Any:
    """Weighted sums of per-image values, [b, ...] -> [GROUPS, ...], by the images' places; padding counts as zero."""
    return grouped(values, batch.weight, batch.position % GROUPS)


def grouped(values: Any, weight: Any, group: Any) -> Any:
    """Weighted sums of values [b, ...] over each group's images, [GROUPS, ...]; what weighs nothing is dropped."""
    import tensorflow as tf

    values = tf.convert_to_tensor(values)
    weight = tf.reshape(weight, [-1] + [1] * (values.shape.rank - 1))
    # where, not times: 0 * NaN is NaN, and padded rows may hold anything
    values = tf.where(weight > 0, values * weight, tf.zeros_like(values))
    return tf.math.unsorted_segment_sum(values, group, GROUPS)


class Picked(NamedTuple):
    """The images of a stage: indices into the source, in order, and a role for each."""

    indices: np.ndarray
    roles: np.ndarray


@dataclass(frozen=True)
class Stage:
    """One pass over images. `data` names the analysis' field that holds the source's spec, or "data" for the run's own.

    `pick(labels, drawn, seed)` narrows or labels the drawn images; `first` takes only the first micro-batch.
    """

    name: str
    data: str = "data"
    first: bool = False
    pick: Callable[[np.ndarray | None, np.ndarray, int], Picked] | None = None


@dataclass(frozen=True)
class Analysis:
    """The base of both kinds. A subclass is frozen; its fields are its parameters, flags and sidecar entries."""

    name: ClassVar[str]
    figures: ClassVar[tuple[str, ...]] = ()  # the paper's figures it draws, e.g. ("3", "4", "C.5")
    schema: ClassVar[Schema]
    beside: ClassVar[Mapping[str, Schema]] = {}  # further tables that it may give, by their names
    claims: ClassVar[tuple[Claim, ...]] = ()
    against: ClassVar[Literal["no", "may", "must"]] = "no"  # whether it looks at two subjects
    needs_labels: ClassVar[bool] = False
    images: ClassVar[int | None] = None  # how many images unless told otherwise; None: all
    batch: ClassVar[int | None] = None  # images in a minibatch (Gram kind) unless told otherwise

    def parameters(self) -> dict[str, Any]:
        """The fields, as the sidecar records them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def default_taps(self, subject: Subject) -> list[str]:
        """The taps it looks at unless `--taps` says otherwise, in depth order."""
        raise NotImplementedError

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """The tidy table of the totals of the last stage; ends in `self.schema.check`.

        Tables `beside` it are in its `.attrs["beside"]`, by their names.
        """
        raise NotImplementedError

    @classmethod
    def chart(cls, table: pd.DataFrame) -> altair.Chart:
        """The figure of a table: what `draw` of the charts.py beside the analysis makes of it. Charts never compute."""
        charts = charts_of(cls)
        if charts is None:
            raise BadInput(f"{cls.name} has no figure: neither `chart` nor a charts.py beside it")
        return charts.draw(table)


@dataclass(frozen=True)
class Run:
    """What an analysis may ask about the run it is in, on the device and at the table."""

    subjects: tuple[Subject, ...]  # one, or two with `against`
    taps: tuple[tuple[str, ...], ...]  # the chosen taps of each subject, in depth order
    images: int = 0  # images drawn (per repeat, for cka)
    batch: int = 0  # images in a minibatch
    seed: int = 0
    note: Callable[[str], None] = print  # a line for the log and the sidecar's notes
    # the opened data.Source of "data" and of every field that a stage names: class counts, labels, specs
    sources: Mapping[str, Any] = field(default_factory=dict)
    memory: int = 0  # bytes that the run may take where a replica computes; 0: not told
    host: int = 0  # bytes that it may take of the machine, for what waits there: on CPUs the same; 0: as `memory`

    @property
    def subject(self) -> Subject:
        """The first subject: the only one of most analyses."""
        return self.subjects[0]


@dataclass(frozen=True)
class PerImage(Analysis):
    """Sums of one micro-batch from its taps, in one `tf.function`."""

    # images in a micro-batch at most; 1 for costly steps, so that progress, resuming and replicas count single images
    micro: ClassVar[int | None] = None
    widens: ClassVar[bool] = False  # whether a compiled step holds its widest tap many times over

    def stages(self, run: Run) -> Sequence[Stage]:
        """The passes in order; each pass' totals may give constants to the next."""
        return (Stage("sums"),)

    def needs(self, run: Run) -> Sequence[str]:
        """The taps that a step reads (the chosen ones unless the analysis needs their neighbours too)."""
        return run.taps[0]

    def step(
        self, stage: Stage, taps: Mapping[str, Any], batch: Batch, constants: Constants, run: Run
    ) -> dict[str, Any]:
        """Sums of one micro-batch: pure tensors, static shapes, compilable by XLA.

        A key that starts with `rows/` holds one row per image [b, ...] instead of a sum: the walk files it at
        the image's position, so the total is [images of the stage, ...].
        """
        raise NotImplementedError

    def bind(self, stage: Stage, run: Run) -> Callable[[Batch, Constants], dict[str, Any]] | None:
        """A step that drives the model itself (gradients); None: the walk calls the model and then `step`."""
        return None

    def passes(self, run: Run) -> float:
        """What one image costs, in forward passes."""
        return 1.0

    def shorter(self) -> tuple[str, PerImage | None]:
        """Flags of a setting that takes less time, and the analysis with it; nothing where there is none to offer."""
        return "", None

    def held(self, run: Run) -> float:
        """Bytes that a bound step, or its totals, hold beside the model."""
        return 0.0

    def on_device(self, run: Run) -> float:
        """Bytes that a compiled step is given, gives or keeps for gradients, beside model, images and what is live."""
        return 0.0

    def constants(self, stage: Stage, totals: Totals, constants: Constants, run: Run) -> dict[str, Any]:
        """What a finished stage hands to the next ones, on the host (arrays; saved with the totals)."""
        return {}


@dataclass(frozen=True)
class View:
    """Representations that one tap yields: `split` turns [b, ...] into [r, b, p], one row of r per key.

    `tap` may be "images": the network's input. All keys of a view share one power-of-two scale.
    """

    side: int  # which subject: 0 or 1
    tap: str
    keys: tuple[str, ...]
    split: Callable[[Any], Any]
    also: tuple[str, ...] = ()  # measures of this view alone, beside those of the whole analysis


class Extra(NamedTuple):
    """Per-image values of one tap, summed over the images of each group."""

    side: int
    tap: str
    values: Callable[[Any], Any]  # [b, ...] -> [b, ...]


@dataclass(frozen=True)
class PerMinibatch(Analysis):
    """HSIC between representations, from the Gram matrices of whole minibatches.

    Totals are the HSIC sums of each draw [draws, ...], by the names of `products`, `count` [draws] of minibatches, and
    under `groups/` the same products' shares of each group of images (stats/shares.py), with `groups/images` [GROUPS].
    Under `pairs/` are what the noise of pairs is made of (stats/pair_noise.py).
    """

    least: ClassVar[int] = 4  # images in a minibatch: the unbiased estimator divides by n - 3

    def draws(self) -> int:
        """How many times the images are drawn anew; each draw has sums of its own."""
        return 1

    def product_type(self) -> str:
        """The type of a Gram product's inputs: float32, or bfloat16 where it is faster."""
        return "float32"

    def centrings(self) -> tuple[str, ...]:
        """What is summed (folded.FORMS): `u`, the unbiased estimator, and under `NAME/` what else is wanted."""
        return ("u",)

    def extra(self, run: Run) -> Mapping[str, Extra]:
        """Per-image values wanted beside the Grams, as `groups/NAME` [GROUPS, ...]."""
        return {}

    def views(self, run: Run) -> tuple[Sequence[View], Sequence[View]]:
        """The representations of the rows and of the columns; no columns: rows against themselves."""
        raise NotImplementedError

    def pairs_of_images(self, run: Run) -> Sequence[tuple[int, int]]:
        """Representations (row, column) of which each image's share is wanted.

        Totals are then `images/xy`, `images/xx`, `images/yy` [images of the source, pairs], and `images/appearances`,
        how often each image was in a minibatch.
        """
        return ()

    def products(self, run: Run) -> frozenset[str]:
        """Which HSIC matrices in full: of "xx", "xy", "yy" (diagonals of xx and yy always come along), and "pairs"."""
        return frozenset({"xy", "pairs"})


def require(condition: bool, message: str) -> None:
    """One line to the user unless the condition holds."""
    if not condition:
        raise BadInput(message)


def charts_of(analysis: type[Analysis]) -> Any:
    """The module charts.py beside an analysis, None without one. Only what draws waits until Altair is imported."""
    folder = analysis.__module__.rpartition(".")[0]
    beside = f"{folder}.charts"
    return importlib.import_module(beside) if folder and importlib.util.find_spec(beside) else None


def drawings_of(analysis: type[Analysis]) -> tuple[Drawing, ...]:
    """The DRAWINGS of the charts.py beside an analysis, else its one chart under all its figure numbers."""
    charts = charts_of(analysis)
    if charts is not None:
        return charts.DRAWINGS
    doc = (analysis.__doc__ or "").strip().splitlines()
    title = doc[0].rstrip(".") if doc else analysis.name
    from tf_vitcnn.charts import Drawing

    return (Drawing(analysis.figures, title, "", analysis.chart),)
