"""The paper's claims about similarity under each measure, and whether the measures agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from tf_vitcnn.analyses.cka import claims as of_cka
from tf_vitcnn.verdicts.claim import Claim, Outcome, claim
from tf_vitcnn.verdicts.evidence import Need, Result
from tf_vitcnn.verdicts.verdict import above

WORDS = {"rsa": "Spearman's correlation of distances", "knn": "shared nearest neighbours"}
AGREE = 0.8
ASKED = (
    of_cka.uniform_vit,
    of_cka.resnet_stages,
    of_cka.low_half,
    of_cka.top_half,
    of_cka.vit_top_differs,
)


def under(asked: Claim, measure: str) -> Claim:
    """A claim about CKA, asked of another measure's column."""
    needs = tuple(replace(need, analysis="similarity", parameters={"tokens": "all"}) for need in asked.needs)
    return replace(
        asked,
        id=f"{asked.id}-{measure}",
        place=f"{asked.place}, by {measure}",
        statement=f"{asked.statement.rstrip('.')} (by {WORDS[measure]} instead of CKA).",
        needs=needs,
        measure=_in_place_of_cka(asked.measure, measure),
        again=True,
    )


def _in_place_of_cka(measure: Callable[..., Outcome], column: str) -> Callable[..., Outcome]:
    def measured(*results: Result) -> Outcome:
        return measure(*(replace(r, table=r.table.assign(cka=r.table[column])) for r in results))

    return measured


@claim(
    "measures-agree",
    "after the paper",
    "CKA, distances' ranks and shared neighbours order the pairs of layers alike: each two of them have a rank "
    f"correlation above {AGREE}.",
    Need("similarity"),  # over hundreds of pairs of layers a rank correlation changes in steps too small to count
)
def measures_agree(result: Result) -> Outcome:
    """Spearman's correlation of each two measures over the pairs of different layers."""
    table = result.table[result.table.layer_x != result.table.layer_y]
    ranks = table[["cka", "rsa", "knn"]].rank()
    pairs = (("cka", "rsa"), ("cka", "knn"), ("rsa", "knn"))
    return [above(_correlation(ranks, a, b), AGREE, what=f"{a} and {b}") for a, b in pairs]


def _correlation(ranks: pd.DataFrame, a: str, b: str) -> Any:
    both = ranks[[a, b]].dropna()
    return np.corrcoef(both[a], both[b])[0, 1] if len(both) > 2 else np.nan


CLAIMS = (*(under(asked, measure) for asked in ASKED for measure in WORDS), measures_agree)
