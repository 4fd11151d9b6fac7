"""Claim -> Verdict: a sentence of the paper as data, tested on whatever tables are there.

A claim says which tables it needs, by what their sidecars record, and how a pure function turns them into numbers
with thresholds. An analysis lists its claims beside its chart:

    @claim("skip-stronger-in-vit", "Fig. 7", "Mean ratio over layers is larger in the ViT than in the ResNet.",
           Need("skip_ratio", VIT), Need("skip_ratio", RESNET))
    def skip_stronger_in_vit(vit: Result, resnet: Result) -> Outcome:
        return above(mean_ratio(vit), mean_ratio(resnet))

The function gets one Result per Need, in order (a list of them where the Need says `many`), and returns `above`,
`below` or `between`, a list of these when all must hold, or `Untested("why")`. It is called again on the same tables
as they would be with other images, which gives every margin its interval: what depends on keys alone is kept by
`Result.once`. What a table lacks is said by raising `errors.Unanswerable`; any other exception is a bug and is let
through.

Every combination of tables that fits gets its own verdict (of several trainings, those of one seed: verdicts/seeds.py);
one whose tables do not agree is untested, the difference named (verdicts/evidence.py). Tables of networks with random
weights are never tested: the same claim on the same architectures with random weights, same images, same settings, is
the baseline, a verdict of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import pandas as pd

from tf_vitcnn.errors import Unanswerable
from tf_vitcnn.verdicts.cause import CAUSES, differences
from tf_vitcnn.verdicts.evidence import (
    Need,
    Result,
    disagreement,
    flat,
    same_architectures,
)
from tf_vitcnn.verdicts.interval import Sample, images_of, spread
from tf_vitcnn.verdicts.seeds import seed_by_seed
from tf_vitcnn.verdicts.verdict import UNCOUNTED, UNKNOWN, UNSTEADY, Check, Statement, Verdict

Z = 1.959963984540054


@dataclass(frozen=True)
class Untested:
    """Why the tables that are there cannot decide."""

    reason: str


Outcome = Check | list[Check] | Untested


def any_combination(*results: Any) -> bool:
    """The tables need nothing of each other but what all evidence needs."""
    return True


def subjects_compared(*results: Any) -> Iterator[tuple[Any, Any]]:
    """Whose difference a claim traces to a cause: the two of each table, or the first of each table and the next."""
    given = list(flat(results))
    if len(given[0].sidecar["subjects"]) == 2:
        yield from ((r.subject, r.other) for r in given)
    else:
        yield from ((a.subject, b.subject) for a, b in itertools.pairwise(given))


@dataclass(frozen=True)
class Claim(Statement):
    """A sentence of the paper, the tables it needs, and the function that measures it."""

    needs: tuple[Need, ...] = ()
    measure: Callable[..., Outcome] = field(kw_only=True)
    pair: Callable[..., bool] = any_combination  # which combinations of tables are meant at all
    isolates: str = ""  # the one cause (verdicts/cause.py) in which the subjects compared may differ
    compared: Callable[..., Iterable[tuple[Any, Any]]] = subjects_compared
    varies: tuple[str, ...] = ()  # settings, or what tells images apart, in which its tables differ on purpose
    jumps: bool = False  # the statistic changes in steps: its interval comes from random weightings

    def __call__(self, *results: Any) -> Outcome:
        """The measurement itself, on given tables."""
        return self.measure(*results)

    def verdicts(self, results: Sequence[Result]) -> list[Verdict]:
        """A verdict for each combination of tables that agree, and one that says why for what has no such company.

        Tables with a tag are variants of a run: they speak only where the plain tables of the same subjects do not.
        """
        found = seed_by_seed(list(self._combinations(results, random=False)))
        if not found:
            return [Verdict(self, note=self._missing(results))]
        untrained = sorted(self._combinations(results, random=True), key=_tagged)  # the plain ones first
        baselines = [(each, cache(partial(self._measured, each))) for each in untrained]  # once for all seeds
        judged, refused, answered = [], [], set()
        for chosen in found:
            if why := self._unfit(chosen):
                refused.append((_names(chosen[0]), replace(self._blank(chosen), note=why)))
            else:
                judged.append((self._verdict(chosen, baselines), _tagged(chosen)))
                answered.add(_names(chosen[0]))
        settled = {verdict.subjects for verdict, tagged in judged if verdict.checks and not tagged}
        shown = [verdict for verdict, tagged in judged if not tagged or verdict.subjects not in settled]
        lonely = {names: verdict for names, verdict in reversed(refused) if names not in answered}
        return [*shown, *reversed(lonely.values())]

    def _combinations(self, results: Sequence[Result], random: bool) -> Iterator[tuple]:
        for chosen in itertools.product(*(need.find(results, random) for need in self.needs)):
            if self.pair(*chosen):
                yield chosen

    def _unfit(self, chosen: tuple) -> str:
        """Why these tables cannot be compared; empty if they can."""
        why = disagreement(self.needs, chosen, self.varies)
        if not why and self.isolates:
            found = (differences(a, b, self.isolates) for a, b in self.compared(*chosen))
            why = next(
                (f"differ in more than {CAUSES[self.isolates].words}: {different}" for different in found if different),
                "",
            )
        return why

    def _verdict(self, chosen: tuple, baselines: Sequence[tuple[tuple, Callable[[], Verdict]]]) -> Verdict:
        """The verdict with its baseline: same architectures, same images, same settings, random weights."""
        verdict = self._measured(chosen)
        if not verdict.checks:
            return verdict
        refused = ""
        for random, measured in (each for each in baselines if same_architectures(chosen, each[0])):
            both = (*self.needs, *self.needs)
            refused = disagreement(both, (*chosen, *random), self.varies) or self._unfit(random)
            baseline = None if refused else measured()
            if baseline and baseline.checks:
                return replace(verdict, baseline=baseline)
            refused = refused or (baseline.note if baseline else "")
        note = f"no baseline, {refused}" if refused else ""
        return replace(verdict, note="; ".join(filter(None, (verdict.note, note))))

    def _blank(self, chosen: tuple) -> Verdict:
        tables = tuple(dict.fromkeys(r.path for r in flat(chosen)))
        records = {s["name"]: s for r in flat(chosen) for s in r.sidecar["subjects"]}
        return Verdict(self, subjects=tuple(records), tables=tables, records=tuple(records.values()))

    def _measured(self, chosen: tuple) -> Verdict:
        """The verdict on these tables alone."""
        blank = self._blank(chosen)
        try:
            outcome = self.measure(*chosen)
        except Unanswerable as error:
            return replace(blank, note=str(error))
        if isinstance(outcome, Untested):
            return replace(blank, note=outcome.reason)
        checks = outcome if isinstance(outcome, list) else [outcome]
        if not checks or any(math.isnan(c.margin) for c in checks):
            return replace(blank, note="the tables have no value for it")
        checks = self._with_intervals(chosen, checks)
        note = ""
        if any(math.isnan(c.low) for c in checks):
            without = any(r.groups is None for r in flat(chosen))
            note = UNCOUNTED if any(math.isnan(c.own_se) for c in checks) else UNKNOWN if without else UNSTEADY
        return replace(blank, checks=tuple(checks), note=note)

    def _with_intervals(self, chosen: tuple, checks: list[Check]) -> list[Check]:
        given = list(flat(chosen))

        def margins(tables: Sequence[pd.DataFrame]) -> Sequence[float]:
            new = [replace(r, table=table) for r, table in zip(given, tables, strict=True)]
            try:
                outcome = self.measure(*_filled(chosen, iter(new)))
            except Unanswerable:
                return [math.nan] * len(checks)
            again = outcome if isinstance(outcome, list) else [outcome]
            if len(again) != len(checks) or not all(isinstance(c, Check) for c in again):
                return [math.nan] * len(checks)
            return [c.margin for c in again if isinstance(c, Check)]

        samples = [Sample(r.table, r.groups, images_of(r.sidecar)) for r in given]
        found = spread(samples, margins, jumps=self.jumps)
        return [
            _with_interval(c, m, a, b) for c, m, a, b in zip(checks, found.value, found.low, found.high, strict=True)
        ]

    def _missing(self, results: Sequence[Result]) -> str:
        lacking = list(dict.fromkeys(need.described() for need in self.needs if not need.find(results)))
        return f"needs {' and '.join(lacking)}" if lacking else "no combination of the tables here fits the claim"


def claim(
    id: str, place: str, statement: str, *needs: Need, remark: str = "", **more: Any
) -> Callable[[Callable[..., Outcome]], Claim]:
    """Turns the function that measures into the Claim; `more` are its fields."""
    return lambda measure: Claim(id, place, statement, remark, needs, measure=measure, **more)


def judge(results: Sequence[Result], claims: Iterable[Claim]) -> list[Verdict]:
    """The verdicts on all claims, in the order of the claims."""
    return [verdict for claim in claims for verdict in claim.verdicts(results)]


def _with_interval(check: Check, margin: float, low: float, high: float) -> Check:
    """The check with its margin's interval; an error of its own needs no groups."""
    if check.own_se:
        low, high = (margin if math.isnan(end) else end for end in (low, high))
        low = margin - math.hypot(margin - low, Z * check.own_se)
        high = margin + math.hypot(high - margin, Z * check.own_se)
    return replace(check, low=float(low), high=float(high))


def _filled(chosen: Any, results: Iterator[Result]) -> Any:
    """The combination with other results in its places."""
    return [next(results) if isinstance(c, Result) else _filled(c, results) for c in chosen]


def _names(chosen: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s["name"] for r in flat(chosen) for s in r.sidecar["subjects"]))


def _tagged(chosen: tuple) -> bool:
    return any(r.sidecar.get("tag") for r in flat(chosen))
