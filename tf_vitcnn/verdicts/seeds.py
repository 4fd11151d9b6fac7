"""Several trainings of one recipe: which are compared with which, and a claim's verdicts over seeds in one line.

Trainings of one recipe are recognised by their cards: the same architecture, data and recipe, another seed and other
weights. Of two recipes, those of the same seed are compared: comparisons that share no network are independent of each
other, and three seeds make three of them, not nine. A verdict stands for itself, with its error over images; the
summary says how many hold, and the mean and the spread (standard deviation) of the margin over trainings, which no
number of images can show.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tf_vitcnn.verdicts.cause import recipe
from tf_vitcnn.verdicts.evidence import flat
from tf_vitcnn.verdicts.structure import family
from tf_vitcnn.verdicts.verdict import Statement, Verdict, Word


@dataclass(frozen=True)
class Summary:
    """A claim over several trainings of the same recipes."""

    claim: Statement
    verdicts: tuple[Verdict, ...]

    @property
    def margins(self) -> list[float]:
        """The margin of each training's deciding number."""
        return [v.deciding.margin for v in self.verdicts if v.deciding]

    @property
    def word(self) -> Word:
        """What all trainings agree on; undecided where they do not."""
        words = {v.word for v in self.verdicts}
        return words.pop() if len(words) == 1 else "undecided"

    @property
    def margin(self) -> float:
        """Its mean over trainings."""
        return statistics.mean(self.margins)

    @property
    def spread(self) -> float:
        """The standard deviation of the margin over trainings."""
        return statistics.stdev(self.margins)

    @property
    def held(self) -> int:
        """How many trainings hold it."""
        return sum(v.word == "holds" for v in self.verdicts)

    @property
    def text(self) -> str:
        """`2 of 3 hold; margin 0.012, spread 0.004 over trainings`."""
        margin = f"margin {self.margin:.3g}, spread {self.spread:.2g} over trainings"
        return f"{self.held} of {len(self.verdicts)} hold; {margin}"

    def row(self) -> dict[str, Any]:
        """Its line of claims.csv, after those of its verdicts."""
        return {
            "claim": self.claim.id,
            "place": self.claim.place,
            "verdict": self.word,
            "value": statistics.mean(v.deciding.value for v in self.verdicts if v.deciding),
            "subjects": " ".join(dict.fromkeys(name for v in self.verdicts for name in v.subjects)),
            "tables": " ".join(dict.fromkeys(path for v in self.verdicts for path in v.tables)),
            "note": self.text,
        }


def seed_by_seed(combinations: Sequence[tuple]) -> list[tuple]:
    """A claim's combinations of tables; where networks of two seeds or more meet, those of one seed alone."""
    told = []
    for chosen in combinations:
        records = [record for result in flat(chosen) for record in result.sidecar["subjects"]]
        told.append((_recipes(records), {record["recipe"].get("seed") for record in records if training(record)}))
    met: dict[tuple, set] = {}  # seeds of which there is a network of each recipe
    for recipes, seeds in told:
        if len(seeds) == 1:
            met.setdefault(recipes, set()).update(seeds)
    kept = (len(seeds) < 2 or len(met.get(recipes, ())) < 2 for recipes, seeds in told)
    return list(itertools.compress(combinations, kept))


def over_seeds(verdicts: Sequence[Verdict]) -> list[Verdict | Summary]:
    """The verdicts, and behind the last of those on several trainings of the same recipes their summary."""
    groups: dict[Hashable, list[int]] = {}
    for i, verdict in enumerate(verdicts):
        if verdict.checks:
            groups.setdefault((verdict.claim.id, _recipes(verdict.records)), []).append(i)
    behind = {
        places[-1]: Summary(verdicts[places[0]].claim, tuple(verdicts[i] for i in places))
        for places in groups.values()
        if len({_weights(verdicts[i].records) for i in places}) > 1
    }
    return [line for i, verdict in enumerate(verdicts) for line in (verdict, behind.get(i)) if line is not None]


def training(record: dict[str, Any]) -> str | None:
    """What a subject shares with other trainings of its recipe; None without a card that records one."""
    if not isinstance(record.get("recipe"), dict):
        return None
    same = ("architecture", "data_fingerprint", "fraction", "training_images", "pool", "no_skip")
    tuned = bool(record.get("finetuned_from"))  # each seed may have its own pre-training
    return json.dumps([family(record), recipe(record), tuned, *(record.get(name) for name in same)], sort_keys=True)


def _recipes(records: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """How each was trained; what has no card is its own recipe."""
    return tuple(training(record) or str(record.get("weights_sha256")) for record in records)


def _weights(records: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(str(record.get("weights_sha256")) for record in records)
