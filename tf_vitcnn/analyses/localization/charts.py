"""How localization's tables are drawn: small maps of corner, edge and interior tokens (Fig. 9, 10, D.1 to D.3)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tf_vitcnn.charts import Drawing, Panel, marks


def draw(table: pd.DataFrame) -> Any:
    """CKA with every patch for a corner, two edge and three interior tokens of each layer."""
    return _maps(table)


def over_photograph(table: pd.DataFrame) -> list[Panel]:
    """The maps of the last layer's tokens over a photograph; none where there is no photograph of such images."""
    picture = next(iter(table.attrs.get("pictures", {}).values()), None)
    if picture is None:
        return []
    return [Panel(_maps(table[table.depth == table.depth.max()], picture=picture, size=112))]


def _maps(table: pd.DataFrame, **more: Any) -> Any:
    shown = []
    for _, layer in table[table.token_row >= 0].groupby("depth", sort=True):
        rows, cols = layer.token_row.max() + 1, layer.token_col.max() + 1
        chosen = [(0, 0), (0, cols // 2), (rows // 2, 0), (rows // 4, cols // 4), (rows // 2, cols // 2)]
        chosen.append((rows - 1 - rows // 4, cols - 1 - cols // 4))
        by_place = layer.set_index(["token_row", "token_col"], drop=False).sort_index()
        shown += [by_place.loc[[place]] for place in dict.fromkeys(chosen)]
    return marks.small_maps(
        pd.concat(shown, ignore_index=True),
        "cka",
        row="patch_row",
        col="patch_col",
        panel=("layer", "token_row", "token_col"),
        value_title="CKA",
        **more,
    )


DRAWINGS = (
    Drawing(
        ("9", "10", "D.1", "D.2", "D.3"),
        "CKA of single tokens with input patches",
        "One map per token (layer, row, column), each with its own colour scale: CKA with the input's patches.",
        draw,
    ),
    Drawing(
        (),
        "Where the last layer's tokens look up their place, over a photograph",
        "CKA of single tokens (row, column) with the patches of the images, laid over one of such images (the first of "
        "attention_maps): a bright spot at the token's own place means that it still knows where it is.",
        over_photograph,
    ),
)
