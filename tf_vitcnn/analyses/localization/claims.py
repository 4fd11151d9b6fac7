"""What the paper says of where tokens' information comes from (Fig. 9, 10), measured on the model's last block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tf_vitcnn.errors import Unanswerable
from tf_vitcnn.verdicts.claim import Outcome, Untested, claim
from tf_vitcnn.verdicts.evidence import CLS_VIT, GAP_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.verdict import above, below


class Places(NamedTuple):
    """Rows of the last block's tokens with a place against its patches [tokens, patches], and where both lie."""

    rows: np.ndarray
    shape: tuple[int, int]  # of the grid
    row: np.ndarray  # of a place, by its index
    col: np.ndarray


def last(result: Result) -> Places:
    """The tokens of the model's last block: the table must have it."""
    return result.once("last", lambda: _last(result))


def _last(result: Result) -> Places:
    (layer,) = result.require(result.structure.ends[-1:])
    table = result.table[(result.table.layer == layer) & (result.table.token_row >= 0)]
    table = table.sort_values(["token_row", "token_col", "patch_row", "patch_col"])
    rows, cols = int(table.patch_row.max()) + 1, int(table.patch_col.max()) + 1
    if len(table) != (rows * cols) ** 2:
        raise Unanswerable(f"{result.path or result.subject['name']} lacks tokens or patches of {layer}")
    row, col = np.divmod(np.arange(rows * cols), cols)
    return Places(table.index.to_numpy().reshape(rows * cols, rows * cols), (rows, cols), row, col)


def similarities(result: Result) -> np.ndarray:
    """CKA of the last block's tokens with its patches, [tokens, patches]; NaN where one is constant."""
    return result.table["cka"].to_numpy()[last(result).rows]


def own_to_best(result: Result) -> float:
    """Mean distance from a token's own patch to its best matching patch in the last block, in widths of the image."""
    place, cka = last(result), similarities(result)
    alive = ~np.isnan(cka).all(axis=1)
    if not alive.any():
        raise Unanswerable(f"no token of {result.path} has a CKA")
    best = np.where(np.isnan(cka), -np.inf, cka)[alive].argmax(axis=1)
    # cells are square: both distances count in columns
    distance = np.hypot(place.row[alive] - place.row[best], place.col[alive] - place.col[best])
    return float(distance.mean()) / place.shape[1]


def _trivial(*results: Result) -> Untested | None:
    """No verdict on a last grid of one position: its best patch is its own, whatever the network does."""
    alone = [r.subject["name"] for r in results if last(r).shape == (1, 1)]
    return Untested(f"the last grid of {' and '.join(alone)} has a single position") if alone else None


@claim(
    "tokens-localized",
    "Fig. 9",
    "In the last block, the mean distance from a token's own patch to its best matching patch, as share of the image "
    "width, is smaller in the ViT than in the ResNet.",
    Need("localization", CLS_VIT),
    Need("localization", RESNET),
    jumps=True,
)
def tokens_localized(vit: Result, resnet: Result) -> Outcome:
    """Distance of the best match."""
    return _trivial(vit, resnet) or below(own_to_best(vit), own_to_best(resnet))


@claim(
    "edge-tokens-see-edges",
    "Fig. 9",
    "For edge tokens, mean CKA with other edge patches exceeds mean CKA with interior patches.",
    Need("localization", VIT),
)
def edge_tokens_see_edges(vit: Result) -> Outcome:
    """Mean CKA of the last block's edge tokens with edge patches (their own left out) and with the others."""
    place = last(vit)
    edge = (place.row % (place.shape[0] - 1 or 1) == 0) | (place.col % (place.shape[1] - 1 or 1) == 0)
    if edge.all():
        return Untested("the grid has no interior patches")
    cka = np.where(np.eye(len(edge), dtype=bool), np.nan, similarities(vit))[edge]
    return above(np.nanmean(cka[:, edge]), np.nanmean(cka[:, ~edge]))


@claim(
    "gap-less-localized",
    "Fig. 10",
    "The distance from a token's own patch to its best match is larger in the pooled ViT than in the class-token ViT.",
    Need("localization", GAP_VIT),
    Need("localization", CLS_VIT),
    isolates="pool",
    jumps=True,
)
def gap_less_localized(gap: Result, cls: Result) -> Outcome:
    """Distance of the best match."""
    return _trivial(gap, cls) or above(own_to_best(gap), own_to_best(cls))


CLAIMS = (tokens_localized, edge_tokens_see_edges, gap_less_localized)
