"""Where a network attends in single images: pictures for people, beside the numbers of `attention_distance`.

For each chosen block the attention of the class token (of all tokens together where there is none) over the grid, as
the mean of its heads and of each head that is asked for; and rollout (Abnar and Zuidema, 2020), the product over blocks
of (A + I) / 2, A the mean over heads. Beside it the norm of each token after the block, the median of the image's
tokens being 1: outliers (Darcet et al., 2024) show where they lie. The photographs go beside the table, one small PNG
each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from tf_vitcnn import taps as names_of
from tf_vitcnn.analyses.attention_distance.analysis import PROBS, attention_grid
from tf_vitcnn.analyses.base import Batch, Constants, PerImage, Run, Stage, Totals, require
from tf_vitcnn.analyses.layout import find_grid, image_size, place_of, thumbnail
from tf_vitcnn.tables.attached import Attached
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    from tf_vitcnn.subject import Subject

PICTURES = "pictures"  # in a table's attrs: `00` -> PNG
NORM = "norm"  # a column, and what stands for the head in its rows
MOST = 100  # images: more are no pictures to look at
MEAN, ROLLOUT = "mean", "rollout"


@dataclass(frozen=True)
class AttentionMaps(PerImage):
    """Where heads attend in single images, and rollout over all blocks, for pictures over the photographs."""

    name: ClassVar[str] = "attention_maps"
    images: ClassVar[int | None] = 8
    micro: ClassVar[int | None] = 8
    schema: ClassVar[Schema] = Schema(
        keys=("model", "depth", "layer", "head", "image", "row", "col"),
        values={"attention": (0, 1), NORM: (0, inf)},
        integers=("depth", "image", "row", "col"),
        nullable=("attention", NORM),  # a row has the one or the other
        optional=(NORM,),
    )

    heads: tuple[int, ...] = ()
    """heads that get maps of their own, beside the mean of all"""

    def default_taps(self, subject: Subject) -> list[str]:
        """The attention of the first, the middle and the last block."""
        probs = _all(subject)
        require(bool(probs), f"{subject.name} has no attention probabilities on a grid: attention_maps needs a ViT")
        return list(dict.fromkeys([probs[0], probs[len(probs) // 2], probs[-1]]))

    def needs(self, run: Run) -> Sequence[str]:
        """The chosen taps, and all blocks' for rollout."""
        require(run.images <= MOST, f"--images {run.images}: attention_maps shows at most {MOST}")
        for tap in run.taps[0]:
            attention_grid(run.subject, tap)
            most = int(run.subject.model.output[tap].shape[1])
            require(max(self.heads, default=0) < most, f"--heads {max(self.heads, default=0)}: {tap} has {most} heads")
        wanted = {*run.taps[0], *_rolled(run.subject), *_outputs(run)}
        return [tap for tap in run.subject.taps if tap in wanted]

    def step(
        self, stage: Stage, taps: Mapping[str, Any], batch: Batch, constants: Constants, run: Run
    ) -> dict[str, Any]:
        """Each image's maps [b, heads, k] and rollout [b, k] over the grid's keys, and its photograph."""
        import tensorflow as tf

        rows: dict[str, Any] = {"rows/photo": shrunk(batch.images, thumbnail(*image_size(run.subject)))}
        for tap in run.taps[0]:
            extra = len(attention_grid(run.subject, tap).extra)
            seen = _of_query(tf.cast(taps[tap], tf.float32), extra)  # [b, n, k]
            chosen = [tf.reduce_mean(seen, axis=1), *(seen[:, head] for head in self.heads)]
            rows[f"rows/maps/{tap}"] = tf.stack(chosen, axis=1)
        for tap in _outputs(run):
            grid = _grid(run.subject, tap)
            tokens = tf.reshape(tf.cast(taps[tap], tf.float32), [-1, len(grid.extra) + grid.tokens, grid.channels])
            rows[f"rows/norm/{tap}"] = tf.norm(tokens, axis=-1)[:, len(grid.extra) :]
        if rolled := _rolled(run.subject):
            extra = len(attention_grid(run.subject, rolled[-1]).extra)
            rows["rows/rollout"] = _of_query(rollout([taps[tap] for tap in rolled])[:, None], extra)[:, 0]
        return rows

    def table(self, totals: Totals, constants: Constants, run: Run) -> pd.DataFrame:
        """One row per image, layer, head and place; the photographs as files beside it."""
        names = [MEAN, *(f"{head:02d}" for head in self.heads)]
        parts = [
            _rows(run, attention_grid(run.subject, tap), tap, name, np.clip(totals[f"rows/maps/{tap}"][:, i], 0, 1))
            for tap in run.taps[0]
            for i, name in enumerate(names)
        ]
        if rolled := _rolled(run.subject):
            through = np.clip(totals["rows/rollout"], 0, 1)
            parts.append(_rows(run, attention_grid(run.subject, rolled[-1]), rolled[-1], ROLLOUT, through))
        for tap in _outputs(run):
            norm = np.asarray(totals[f"rows/norm/{tap}"])
            relative = norm / np.maximum(np.median(norm, axis=1, keepdims=True), 1e-12)
            parts.append(_rows(run, _grid(run.subject, tap), tap, NORM, relative))
        table = self.schema.check(pd.concat(parts, ignore_index=True))
        pictures = Attached({f"{i:02d}": data for i, data in enumerate(_pngs(totals["rows/photo"]))})
        table.attrs[PICTURES] = pictures
        table.attrs["files"] = {f"image{i}.png": data for i, data in pictures.items()}
        return table


def rollout(probs: Sequence[Any]) -> Any:
    """How much of each token's input reaches each token of the last block, [b, q, k], of [b, n, q, k] per block."""
    import tensorflow as tf

    through = None
    for attention in probs:
        mean = tf.reduce_mean(tf.cast(attention, tf.float32), axis=1)
        step = 0.5 * (mean + tf.eye(int(mean.shape[-1])))
        through = step if through is None else tf.matmul(step, through)
    return through


def shrunk(images: Any, size: tuple[int, int]) -> Any:
    """Images [b, h, w, c] whose pixels are means over areas: as products, since TPUs have no kernel for ResizeArea."""
    import tensorflow as tf

    rows, cols = (tf.constant(_areas(*sides)) for sides in zip(images.shape[1:3], size, strict=True))
    return tf.einsum("gh,bhwc,kw->bgkc", rows, images, cols)


def _areas(size: int, out: int) -> np.ndarray:
    """What each of `size` pixels has of each of `out` larger ones, [out, size]; rows sum to one."""
    edges, pixels = np.linspace(0, size, out + 1), np.arange(size)
    inside = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(inside, 0) * out / size).astype(np.float32)


def _of_query(probs: Any, extra: int) -> Any:
    """What the first token, the class token, attends to on the grid; the mean token where all have places."""
    import tensorflow as tf

    seen = probs[:, :, 0] if extra else tf.reduce_mean(probs, axis=2)
    return seen[:, :, extra:]


def _all(subject: Subject) -> list[str]:
    return [tap for tap in subject.taps if tap.endswith(PROBS) and place_of(subject, tap) is not None]


def _rolled(subject: Subject) -> list[str]:
    """The blocks that rollout goes through: none where their tokens are not the same throughout."""
    probs = _all(subject)
    shapes = {tuple(subject.model.output[tap].shape)[2:] for tap in probs}
    return probs if len(shapes) == 1 and all(q == k for q, k in shapes) else []


def _outputs(run: Run) -> list[str]:
    """What the blocks of the chosen taps add up to, where that is tokens on a grid."""
    found = [f"{names_of.block_of(tap)}/resid/post" for tap in run.taps[0]]
    return [tap for tap in dict.fromkeys(found) if tap in run.subject.taps and _grid(run.subject, tap)]


def _grid(subject: Subject, tap: str) -> Any:
    """The grid of a block's tokens; None where there is none."""
    grid = find_grid(subject, tap)
    return grid if grid is not None and grid.kind == "tokens" else None


def _rows(run: Run, grid: Any, tap: str, head: str, maps: np.ndarray) -> pd.DataFrame:
    """The rows of one layer and head, of maps [images, k]."""
    image, row, col = np.indices((len(maps), grid.rows, grid.cols)).reshape(3, -1)
    about = {"model": run.subject.name, "depth": run.subject.depths[tap], "layer": tap, "head": head}
    value = NORM if head == NORM else "attention"
    return pd.DataFrame({**about, "image": image, "row": row, "col": col, value: maps.reshape(-1)})


def _pngs(photos: np.ndarray) -> list[bytes]:
    """Photographs [images, h, w, 3] in the network's own values as PNGs: their common range is black to white."""
    import tensorflow as tf

    low, high = float(photos.min()), float(photos.max())
    pixels = np.round(255 * (photos - low) / max(high - low, 1e-6)).astype(np.uint8)
    return [tf.io.encode_png(photo).numpy() for photo in pixels]
