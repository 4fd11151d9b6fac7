"""What probes take from the device and give back to it: rows, sums, solutions, counts of correct predictions.

Axes: s readouts of a tap, b image, p feature, c class; r the parts of the training set (fit, held out).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from etils import epath

from tf_vitcnn.analyses.base import Batch, Constants, Totals, by_group
from tf_vitcnn.analyses.layout import Grid
from tf_vitcnn.analyses.probe.features import MEAN, Reader, readers
from tf_vitcnn.analyses.probe.split import FIT, HELD_OUT
from tf_vitcnn.errors import UNREADABLE, BadInput
from tf_vitcnn.stats.interval import normal, wilson
from tf_vitcnn.stats.resample import standard_error, without_each

if TYPE_CHECKING:
    from tf_vitcnn.stats import ridge  # SciPy comes with it: reports read tables without

Features = Mapping[Reader, Any]  # each [s, b, p]
FORMAT = 1


def pivots(features: Features, batch: Batch) -> dict[str, Any]:
    """Sums of features, [s, p] for each tap, and how many images they are of."""
    import tensorflow as tf

    found = {f"sum/{r.tap}": tf.reduce_sum(_present(x, batch), axis=1) for r, x in features.items()}
    return {**found, "images": tf.reduce_sum(batch.weight)}


def mean(totals: Totals, reader: Reader) -> np.ndarray:
    """The pivot [s, p] of a tap: any constant near the mean serves."""
    return (totals[f"sum/{reader.tap}"] / totals["images"]).astype(np.float32)


def rows(features: Features, batch: Batch) -> dict[str, Any]:
    """The features themselves, [b, s, p], with label and role."""
    import tensorflow as tf

    if not features:
        return {}
    kept = {f"rows/{r.tap}": tf.transpose(x, [1, 0, 2]) for r, x in features.items()}
    return {**kept, "rows/label": batch.label, "rows/role": batch.role}


def sums(features: Features, batch: Batch, constants: Constants, classes: int) -> dict[str, Any]:
    """X'X [r, s, p, p], class sums [r, c, s, p] and class counts [r, c] about the pivots."""
    import tensorflow as tf

    if not features:
        return {}
    # padding belongs to no class
    segment = tf.where(batch.weight > 0, batch.role * classes + batch.label, -1)
    found = {"images": tf.reshape(tf.math.unsorted_segment_sum(batch.weight, segment, 2 * classes), [2, classes])}
    for reader, values in features.items():
        x = _present(values - constants[f"pivot/{reader.tap}"][:, None], batch)
        # float32: about the pivot nothing cancels; the host adds in float64
        parts = [x * tf.cast(batch.role == role, x.dtype)[:, None] for role in (FIT, HELD_OUT)]
        by_class = tf.math.unsorted_segment_sum(tf.transpose(x, [1, 0, 2]), segment, 2 * classes)
        found[f"xx/{reader.tap}"] = tf.stack([tf.matmul(x, part, transpose_a=True) for part in parts])
        found[f"xy/{reader.tap}"] = tf.reshape(by_class, [2, classes, *x.shape[::2]])
    return found


def solve(group: Sequence[Reader], totals: Totals, constants: Constants, classes: int) -> dict[str, np.ndarray]:
    """The probes of a group of layers: pivot [s, p], weights [s, p, c], bias [s, c] and l2 [s] for each tap."""
    from tf_vitcnn.devices import cores  # SciPy comes with it

    problems = [problem for reader in group for problem in _problems(reader, totals, constants, classes)]
    solutions = iter(cores.solved(problems))
    found: dict[str, np.ndarray] = {}
    for reader in group:
        mine = [next(solutions) for _ in reader.names]
        pivot = np.stack([s.pivot for s in mine]).astype(np.float32)
        # the pivot that the device subtracts is float32: what it lacks goes into the bias
        bias = [s.bias + (p - s.pivot) @ s.weights for s, p in zip(mine, pivot.astype(np.float64), strict=True)]
        found[f"pivot/{reader.tap}"] = pivot
        found[f"weights/{reader.tap}"] = np.stack([s.weights for s in mine]).astype(np.float32)
        found[f"bias/{reader.tap}"] = np.stack(bias).astype(np.float32)
        found[f"l2/{reader.tap}"] = np.array([s.l2 for s in mine])
    return found


def _problems(reader: Reader, totals: Totals, constants: Constants, classes: int) -> list[Callable[[], ridge.Solution]]:
    from tf_vitcnn.stats import ridge

    tap = reader.tap
    source = "rows" if f"rows/{tap}" in totals else "xx"
    if not np.isfinite(totals[f"{source}/{tap}"].sum()):
        raise BadInput(f"{tap}: its values are not finite numbers; a probe cannot be fitted")
    sets = range(len(reader.names))
    if source == "rows":
        rows, label, held = totals[f"rows/{tap}"], totals["rows/label"].astype(int), totals["rows/role"] == HELD_OUT
        # views of the rows: a set is copied when its turn comes
        return [partial(ridge.fit_rows, rows[:, s], label, held, classes) for s in sets]
    pivot = constants[f"pivot/{tap}"].astype(np.float64)
    fit, held = ([_part(totals, tap, role, s) for s in sets] for role in (FIT, HELD_OUT))
    return [partial(ridge.fit_sums, fit[s], held[s], pivot[s]) for s in sets]


def _part(totals: Totals, tap: str, role: int, s: int) -> ridge.Sums:
    from tf_vitcnn.stats import ridge

    return ridge.Sums(totals[f"xx/{tap}"][role, s], totals[f"xy/{tap}"][role, :, s], totals["images"][role])


def tested(features: Features, batch: Batch, constants: Constants) -> dict[str, Any]:
    """Correct predictions [G, s], and shares of tokens that are right in an image, with their squares [G, 2]."""
    import tensorflow as tf

    labelled = tf.logical_and(batch.weight > 0, batch.label >= 0)
    found = {"tested": by_group(tf.cast(labelled, tf.float32), batch)}
    for reader, values in features.items():
        tap = reader.tap
        # padding may hold anything: what it predicts is not counted
        x = values - constants[f"pivot/{tap}"][:, None]
        scores = tf.matmul(x, constants[f"weights/{tap}"]) + constants[f"bias/{tap}"][:, None]  # [s, b, c]
        right = tf.argmax(scores, axis=-1, output_type=tf.int32) == batch.label
        correct = tf.cast(tf.logical_and(right, labelled), tf.float32)
        found[f"correct/{tap}"] = by_group(tf.transpose(correct), batch)
        if reader.tokens:
            share = tf.reduce_mean(tf.gather(correct, reader.tokens), axis=0)  # [b]
            found[f"share/{tap}"] = by_group(tf.stack([share, tf.square(share)], axis=-1), batch)
    return found


class Accuracy(NamedTuple):
    """What the test images say of one readout."""

    columns: dict[str, float]
    changes: np.ndarray  # [G] of the accuracy, without each group of them


def accuracies(reader: Reader, counts: Mapping[str, Any]) -> dict[str, Accuracy]:
    """Accuracy, its errors and lambda of every readout, `mean_token` last."""
    tested = np.asarray(counts["tested"])
    images = round(float(tested.sum()))
    if images == 0:
        raise BadInput("no test image has a label: there is nothing to count")
    found = {}
    for s, name in enumerate(reader.names):
        correct = counts[f"correct/{reader.tap}"][:, s]
        interval = wilson(round(float(correct.sum())), images)
        found[name] = _accuracy(correct, tested, interval, float(counts[f"l2/{reader.tap}"][s]))
    if reader.tokens:
        share = counts[f"share/{reader.tap}"]
        total, squares = share.sum(axis=0)
        found[MEAN] = _accuracy(share[:, 0], tested, normal(total, squares, images), np.nan)
    return found


def _accuracy(correct: np.ndarray, tested: np.ndarray, interval: tuple[float, float], l2: float) -> Accuracy:
    value, changes = without_each({"right": correct, "of": tested}, lambda sums: sums["right"] / sums["of"], tested > 0)
    low, high = interval
    columns = {"accuracy": float(value), "accuracy_lo": low, "accuracy_hi": high, "l2": l2}
    return Accuracy(columns | {"accuracy_se": float(standard_error(changes))}, changes)


class Kept(NamedTuple):
    """Fitted probes as a file holds them."""

    classes: int
    taps: dict[str, dict[str, Any]]  # each tap's readouts, grid and block
    arrays: dict[str, np.ndarray]  # pivot/TAP, weights/TAP, bias/TAP, l2/TAP

    @classmethod
    def of(cls, classes: int, groups: Sequence[Sequence[Reader]], constants: Constants) -> Kept:
        """The probes among a run's constants."""
        mine = [reader for group in groups for reader in group]
        about = {r.tap: {"readouts": r.names, "grid": list(r.grid), "block": r.block} for r in mine}
        parts = ("pivot", "weights", "bias", "l2")
        return cls(classes, about, {f"{part}/{r.tap}": constants[f"{part}/{r.tap}"] for r in mine for part in parts})

    def dump(self) -> bytes:
        """An .npz file, the same bytes for the same probes."""
        header = json.dumps({"format": FORMAT, "classes": self.classes, "taps": self.taps})
        buffer = io.BytesIO()
        np.savez(buffer, header=np.array(header), **self.arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def read(cls, path: str, arrays: bool = True) -> Kept:
        """The probes of a file, or only what they are for."""
        try:
            with epath.Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] != FORMAT:
                    raise ValueError
                held = {key: file[key] for key in file.files if key != "header"} if arrays else {}
            return cls(header["classes"], header["taps"], held)
        except FileNotFoundError:
            raise BadInput(f"{path}: no such file; --weights takes a .weights.npz that --keep-weights wrote") from None
        except UNREADABLE as error:
            raise BadInput(f"{path}: not probes that --keep-weights wrote") from error

    @staticmethod
    def sha256(path: str) -> str:
        """What tells a file of probes from another of the same name."""
        digest = hashlib.sha256()
        try:
            with epath.Path(path).open("rb") as stream:
                while part := stream.read(2**20):
                    digest.update(part)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
        return digest.hexdigest()

    def readers(self, subject: Any, taps: Sequence[str]) -> list[Reader]:
        """How the chosen taps are read for these probes; a subject with other taps or widths is refused."""
        missing = [tap for tap in taps if tap not in self.taps]
        if missing:
            raise BadInput(
                f"no kept probe for {missing[0]} of {subject.name}; there are probes for {', '.join(self.taps)}"
            )
        made = []
        for tap in taps:
            about = self.taps[tap]
            plain = readers(subject, [tap], (), False, about["block"] > 1)[0]
            rows, cols, extra, channels, kind = about["grid"]
            grid = Grid(rows, cols, tuple(extra), channels, kind)
            if plain.grid != grid:
                raise BadInput(f"{tap} of {subject.name} has the grid {plain.grid}, the kept probe is for {grid}")
            made.append(Reader(tap, tuple(about["readouts"]), plain.source, grid, about["block"]))
        return made


def _present(values: Any, batch: Batch) -> Any:
    """Values [s, b, p], zero for the padding, which may hold anything."""
    import tensorflow as tf

    return tf.where(batch.weight[:, None] > 0, values, tf.zeros_like(values))
