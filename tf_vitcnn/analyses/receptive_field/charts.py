"""How receptive_field's tables are drawn: one small map per layer (Fig. 6, C.1 to C.4)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks

OVER = 5  # layers, from low to high, whose field is shown over a photograph


def draw(table: pd.DataFrame) -> Any:
    """One small map per layer, square-root scale, each normalised to its own maximum."""
    panel = ("layer",) if table.model.nunique() == 1 else ("model", "layer")
    ordered = table.sort_values(["model", "depth"], kind="stable")
    return marks.small_maps(ordered, "gradient", panel=panel, columns=6, value_title="share of gradient")


def over_photograph(table: pd.DataFrame) -> list[Panel]:
    """The fields of a few layers over a photograph; none where there is no photograph of such images."""
    picture = next(iter(table.attrs.get("pictures", {}).values()), None)
    if picture is None:
        return []
    layers = list(table.sort_values("depth").layer.unique())
    chosen = {layers[round(i * (len(layers) - 1) / (OVER - 1))] for i in range(OVER)}
    shown = table[table.layer.isin(chosen)].sort_values("depth", kind="stable")
    return [Panel(marks.small_maps(shown, "gradient", value_title="share of gradient", picture=picture, size=112))]


def _branches(sidecar: dict[str, Any]) -> bool:
    """Whether layers were chosen before the residual addition."""
    return any("out" in tap for tap in sidecar.get("parameters", {}).get("taps") or ())


DRAWINGS = (
    Drawing(
        ("6", "C.1", "C.2", "C.3"),
        "Effective receptive fields",
        "Gradient of each layer's centre position with respect to the input image, every map on its own "
        "square-root scale.",
        draw,
        lambda sidecar: not _branches(sidecar),
    ),
    Drawing(
        (),
        "Receptive fields over a photograph",
        "What the centre of low, middle and high layers depends on: the mean over images, as in Fig. 6, laid over one "
        "of such images (the first of attention_maps).",
        over_photograph,
        lambda sidecar: not _branches(sidecar),
    ),
    Drawing(
        ("C.4",),
        "Effective receptive fields before the residual addition",
        "As Fig. 6, of the branches alone: in the paper those of a ResNet shrink where a stage begins, and a ViT's "
        "keep their centre only after the addition.",
        draw,
        _branches,
    ),
)
