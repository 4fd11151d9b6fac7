"""How localization's tables are drawn: small maps of corner, edge and interior tokens (Fig. 9, 10, D.1 to D.3)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tf_vitcnn.charts import Drawing, marks


def maps(table: pd.DataFrame) -> Any:
    """CKA with every patch for a corner, two edge and three interior tokens of each layer."""
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
    )


DRAWINGS = (
    Drawing(
        ("9", "10", "D.1", "D.2", "D.3"),
        "CKA of single tokens with input patches",
        "One map per token (layer, row, column), each with its own colour scale: CKA with the input's patches.",
        maps,
    ),
)
