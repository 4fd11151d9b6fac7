"""The log of a training run: a table with one row per epoch, and its learning curve. `read_table` reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from tf_vitcnn.tables.training_log import NAME, SCHEMA
from tf_vitcnn.tables.write import write_table

if TYPE_CHECKING:
    import altair


def write(path: str | os.PathLike, rows: Sequence[dict[str, Any]], sidecar: dict[str, Any]) -> None:
    """PATH.csv and PATH.json of the epochs so far."""
    frame = pd.DataFrame(list(rows), columns=[*SCHEMA.keys, *SCHEMA.values])
    write_table(path, SCHEMA.check(frame), {"analysis": NAME, **sidecar})


def chart(log: pd.DataFrame) -> altair.VConcatChart:
    """Accuracy on training and validation images over epochs, above the loss."""
    import altair as alt

    names = {"accuracy": "training", "val_accuracy": "validation"}
    long = log.rename(columns=names).melt("epoch", list(names.values()), "images", "accuracy").dropna()
    x = alt.X("epoch:Q", title="epoch")
    accuracy = (
        alt.Chart(long)
        .mark_line(point=len(log) < 10)
        .encode(
            x=x,
            y=alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("images:N", title=None),
        )
    )
    loss = alt.Chart(log).mark_line(color="black", point=len(log) < 10).encode(x=x, y=alt.Y("loss:Q", title="loss"))
    return alt.vconcat(accuracy.properties(height=200), loss.properties(height=100)).properties(
        title=json.dumps(log.attrs.get("sidecar", {}).get("model", "training"))[1:-1]
    )
