"""How cka's tables are drawn: a heatmap, or lines over depth where only equal layers were compared."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tf_vitcnn.analyses.cka.strip import STRIP
from tf_vitcnn.charts import Drawing, Panel, marks, side_by_side
from tf_vitcnn.charts.drawing import Extent

UNITS = "CKA"


def draw(table: pd.DataFrame) -> Any:
    """Lines for a table of equal layers of two checkpoints, else the heatmap, and its errors small beside it."""
    if _matching(table):
        return side_by_side(lines(table))
    parts = side_by_side([Panel(heatmap(table)), *errors(table)])
    return parts.resolve_scale(color="independent") if hasattr(parts, "hconcat") else parts


def errors(table: pd.DataFrame, largest: Extent | None = None) -> list[Panel]:
    """How far other images would move each cell."""
    ends = {"x_title": table.model_x.iloc[0], "y_title": table.model_y.iloc[0]}
    found = marks.error_map(table, "cka_se", largest, **ends)
    return [Panel(found)] if found is not None else []


def heatmap(table: pd.DataFrame) -> Any:
    """Fig. 1, 2, 8, B.1, H: all layers against all layers, input at the lower left."""
    x, y = table.model_x.iloc[0], table.model_y.iloc[0]
    return marks.heatmap(
        table,
        "cka",
        x_title=f"layer of {x}, by block",
        y_title=f"layer of {y}, by block",
        title=x if x == y else f"{x} against {y}",
        value_title=UNITS,
        error="cka_se",
    )


def lines(table: pd.DataFrame) -> list[Panel]:
    """Fig. 12, G: similarity of equal layers of two checkpoints, at the end of each block."""
    ends = table[(table.layer_x == table.layer_y) & table.layer_x.str.endswith("resid/post")]
    shown = ends if len(ends) else table
    return [
        Panel(
            marks.depth_lines(
                group,
                "cka",
                depth="depth_x",
                layer="layer_x",
                color="model_x",
                error="cka_se",
                relative=True,
                y_title=UNITS,
                domain=(0, 1),
            ),
            f"against {name}",
        )
        for name, group in shown.groupby("model_y", sort=True)
    ]


def _matching(table: pd.DataFrame) -> bool:
    return bool((table.layer_x == table.layer_y).all() and (table.model_x != table.model_y).any())


def _families(sidecar: dict[str, Any]) -> list[str]:
    return [subject.get("family") for subject in sidecar["subjects"]]


def _square(sidecar: dict[str, Any]) -> bool:
    return sidecar.get("parameters", {}).get("pairs") != "matching"


def _within(sidecar: dict[str, Any]) -> bool:
    return len(sidecar["subjects"]) == 1 and _families(sidecar) != ["mixer"]


def _cut(sidecar: dict[str, Any]) -> bool:
    return _within(sidecar) and bool(sidecar["subjects"][0].get("no_skip"))


def _tuned(sidecar: dict[str, Any]) -> bool:
    return any(subject.get("finetuned_from") for subject in sidecar["subjects"])


DRAWINGS = (
    Drawing(
        ("1", "B.1"),
        "Similarity of all layers within a model",
        "CKA between all pairs of layers, input at the lower left, output at the upper right. In the paper ViTs are "
        "uniform, lower and higher layers alike; ResNets fall into stages.",
        heatmap,
        lambda s: _square(s) and _within(s) and not _cut(s),
    ),
    Drawing(
        ("2", "B.1"),
        "Similarity across two models",
        "CKA between all layers of one model and all layers of the other. In the paper the lower half of the ResNet "
        "resembles the lowest quarter of the ViT, the rest of the ResNet the ViT's next third, and the ViT's highest "
        "layers resemble none.",
        heatmap,
        lambda s: _square(s) and len(s["subjects"]) == 2 and "mixer" not in _families(s),
    ),
    Drawing(
        ("8",),
        "Similarity without the skip connections of a block",
        "As Fig. 1, for a model trained without one block's skip connections: in the paper the layers before the "
        "block share little with those after it.",
        heatmap,
        _cut,
    ),
    Drawing(
        ("12",),
        "Similarity to the model trained on all data",
        "CKA between equal layers of a model trained on less data and the one trained on all, at the end of each "
        "block. In the paper higher layers and larger models need more data.",
        lines,
        lambda s: not _square(s) and not _tuned(s),
        together=True,
    ),
    Drawing(
        ("G.1", "G.2"),
        "Similarity before and after fine-tuning",
        "CKA between equal layers before and after fine-tuning. In the paper the lowest blocks are preserved, and "
        "data far from the pre-training data change more.",
        lines,
        lambda s: not _square(s) and _tuned(s),
        together=True,
    ),
    Drawing(
        ("H.1",),
        "Similarity of all layers within an MLP-Mixer",
        "As Fig. 1. In the paper a small block of layers at the beginning and a larger one after it.",
        heatmap,
        lambda s: len(s["subjects"]) == 1 and _families(s) == ["mixer"],
    ),
    Drawing(
        ("H.2",),
        "Similarity of an MLP-Mixer to other models",
        "As Fig. 2. In the paper Mixers resemble ViTs more than ResNets.",
        heatmap,
        lambda s: _square(s) and len(s["subjects"]) == 2 and "mixer" in _families(s),
    ),
    Drawing(
        (),
        "How sure these similarities are",
        "Standard error of each cell over images: how far the number would move with other images of the same kind.",
        errors,
        _square,
        shared="cka_se",
    ),
    STRIP,
)
