"""Figures of `probe`: accuracy over depth with intervals, and maps of the tokens' accuracies."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side

MAPS = 6  # layers whose map is drawn
READOUTS = {
    "cls": "class token",
    "gap": "mean over all tokens",
    "gap_spatial": "mean over spatial tokens",
    "token000": "first spatial token",
    "mean_token": "single tokens, averaged",
}


def draw(table: pd.DataFrame) -> Any:
    """Accuracy over depth, a panel per readout."""
    return side_by_side(lines(table))


def lines(table: pd.DataFrame) -> list[Panel]:
    """Accuracy over depth, one panel per readout (of single tokens the first), with 95 % intervals."""
    shown = table[~table.readout.str.startswith("token") | (table.readout == "token000")]
    highest = float(shown[["accuracy", "accuracy_hi"]].max().max())
    return [
        Panel(
            marks.depth_lines(
                group,
                "accuracy",
                low="accuracy_lo",
                high="accuracy_hi",
                relative=True,
                y_title="test accuracy",
                domain=(0, highest),
            ),
            READOUTS.get(str(readout), str(readout)),
        )
        for readout, group in sorted(shown.groupby("readout"), key=lambda item: _rank(str(item[0])))
    ]


def _rank(readout: str) -> tuple[int, str]:
    order = list(READOUTS)
    return order.index(readout) if readout in order else len(order), readout


def token_maps(table: pd.DataFrame) -> Any:
    """Accuracy of the probe on every token, at its place, for a few layers from low to high (Fig. D.4)."""
    single = table[table.readout.str.startswith("token")].sort_values(["depth", "readout"])
    layers = list(dict.fromkeys(single.layer))
    shown = [layers[round(i * (len(layers) - 1) / max(1, MAPS - 1))] for i in range(MAPS)] if layers else []
    single = single[single.layer.isin(shown)]
    cols = _columns(table, single.readout.nunique())
    place = single.readout.str[len("token") :].astype(int)
    return marks.small_maps(
        single.assign(row=place // cols, col=place % cols),
        "accuracy",
        panel=("layer",),
        columns=MAPS,
        value_title="accuracy",
        title="Linear probes on single tokens",
    )


def _columns(table: pd.DataFrame, tokens: int) -> int:
    """Tokens in a row: from the images' shape where the sidecar is there, else those of a square."""
    subjects = table.attrs.get("sidecar", {}).get("subjects") or [{}]
    height, width = subjects[0].get("image_size") or (1, 1)
    return max(1, round(math.sqrt(tokens * width / height)))


def _each(sidecar: dict[str, Any]) -> bool:
    return sidecar.get("parameters", {}).get("tokens") == "each"


DRAWINGS = (
    Drawing(
        ("11", "13", "F.1", "F.2", "F.3"),
        "Accuracy of linear probes over depth",
        "Ridge regression on the representation after every block or unit, read out in several ways; bands are 95 % "
        "intervals over test images. Single tokens, averaged (mean_token in tables): the mean over a probe per token.",
        draw=lines,
        together=True,
    ),
    Drawing(
        ("D.4",),
        "Accuracy of linear probes on single tokens",
        "One map per layer, each with its own colour scale; a cell is the token at that place.",
        draw=token_maps,
        fits=_each,
    ),
)
