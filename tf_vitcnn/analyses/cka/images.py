"""The images that a similarity rests on: those whose weight would move it most.

`influence` is the derivative of CKA by the image's weight, the weights' mean being one (stats/shares.py): taking the
image out of N changes CKA by about -influence / N. `share` is its size among those of all images. Small copies of the
images go beside the table, one PNG each, for a report to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.base import Run, Totals, View, require
from tf_vitcnn.analyses.layout import thumbnail
from tf_vitcnn.errors import unknown
from tf_vitcnn.tables.attached import Attached
from tf_vitcnn.tables.schema import Schema

if TYPE_CHECKING:
    Pairs = list[tuple[int, int]]

NAME = "cka_images"
SCHEMA = Schema(
    keys=("model_x", "layer_x", "model_y", "layer_y", "rank", "image"),  # image: its place in the source
    values={"influence": (-float("inf"), float("inf")), "share": (0, 1)},
    integers=("rank", "image"),
)


def pairs(of: Sequence[str], rows: Sequence[View], columns: Sequence[View]) -> Pairs:
    """Places of the pairs `LAYER_X:LAYER_Y` among rows and columns."""
    xs, ys = [view.tap for view in rows], [view.tap for view in columns or rows]
    found = []
    for text in of:
        x, colon, y = text.partition(":")
        require(bool(colon), f"--of {text!r}: expected LAYER_X:LAYER_Y, e.g. {xs[0]}:{ys[-1]}")
        for name, known in ((x, xs), (y, ys)):
            if name not in known:
                raise unknown("layer of --of", name, known)
        found.append((xs.index(x), ys.index(y)))
    return found


def table(totals: Totals, run: Run, of: Sequence[str], count: int, dead: Sequence[bool]) -> pd.DataFrame:
    """The `count` images of largest influence for each pair, but those without a CKA.

    What the images are called is in `.attrs["about"]`, for the sidecar.
    """
    from tf_vitcnn.stats.shares import influence

    appearances = totals["images/appearances"]
    seen = np.flatnonzero(appearances)
    q = [totals[f"images/{key}"][seen] for key in ("xy", "xx", "yy")]  # [i, pair]
    # mean q_i is H (n - 2) / (n - 1)
    mean = [s.sum(axis=0) / appearances.sum() * (run.batch - 1) / (run.batch - 2) for s in q]
    all_of_them = influence(mean, [s / appearances[seen][:, None] for s in q])
    models = (run.subjects[0].name, run.subjects[-1].name)
    parts = []
    for pair, text in enumerate(of):
        own = all_of_them[:, pair]
        if dead[pair] or not np.isfinite(own).all():
            run.note(f"{text}: no CKA, so no images that count")
            continue
        order = np.argsort(-np.abs(own), kind="stable")[:count]
        x, _, y = text.partition(":")
        names = {"model_x": models[0], "layer_x": x, "model_y": models[1], "layer_y": y}
        share = np.abs(own) / max(np.abs(own).sum(), np.finfo(float).tiny)
        values = {
            "rank": 1 + np.arange(len(order)),
            "image": seen[order],
            "influence": own[order],
            "share": share[order],
        }
        parts.append(pd.DataFrame(names | values))
    found = SCHEMA.check(pd.concat(parts) if parts else pd.DataFrame(columns=[*SCHEMA.keys, *SCHEMA.values]))
    source, listed = run.sources["data"], sorted(set(map(int, found.image)))
    found.attrs["about"] = {"images": {str(i): source.describe(i) for i in listed}}
    pictures = Attached({str(i): _thumbnail(source.load(i)[0]) for i in listed})
    found.attrs["pictures"] = pictures
    found.attrs["files"] = Attached({f"image{i}.png": data for i, data in pictures.items()})
    return found


def _thumbnail(image: Any) -> bytes:
    """A PNG of an image [h, w, 3] uint8."""
    import tensorflow as tf

    pixels = tf.round(tf.image.resize(image, thumbnail(*image.shape[:2]), "area"))
    return bytes(tf.io.encode_png(tf.cast(pixels, tf.uint8)).numpy())
