"""The computation of a session: stage by stage, step by step, totals saved on the way.

After each step the totals may be written, so that a run killed at any moment goes on where it was and ends with the
same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from etils import epath

from tf_vitcnn.analyses.base import PerImage, PerMinibatch, Picked, Run, Stage
from tf_vitcnn.data.sources import batches, draw, naming_corrupt
from tf_vitcnn.devices.memory import GB
from tf_vitcnn.engine.interrupt import Interrupt, between_steps
from tf_vitcnn.engine.passes import shared
from tf_vitcnn.engine.progress import ProgressBar
from tf_vitcnn.engine.resume import Checkpoint, Place, merged, room_of
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.stats.resample import GROUPS
from tf_vitcnn.tables.schema import Sidecar
from tf_vitcnn.walk.feed import feed, micro_batches, minibatch_chunks
from tf_vitcnn.walk.gram_sums import GramSums
from tf_vitcnn.walk.grams import PIVOT, GramWalk
from tf_vitcnn.walk.images import PerImageWalk, find_not_finite
from tf_vitcnn.walk.plan import WalkPlan, at_once, plan_grams, plan_images


def tables(
    session: Session, checkpoint: epath.Path | None = None, write: Callable[[list[pd.DataFrame]], None] | None = None
) -> list[pd.DataFrame]:
    """The finished tables, in the request's order, each with its sidecar in `.attrs`; given to `write` if there is one.

    What was saved on the way goes only after that: a disk too full for the tables costs no more than a restart.
    """
    analyses = session.request.analyses
    session.settle(room_of(beside(checkpoint, [i]) for i in range(len(analyses))) if checkpoint is not None else None)
    groups = shared(analyses, session.runs, session.budget, session.replicas)
    # before anything is drawn: what is skipped then belongs to the tables' records
    saved = [Checkpoint(beside(checkpoint, g), _identity(session, g), session.room, session.chief) for g in groups]
    with between_steps(checkpoint is not None) as interrupt:
        results = dict(_results(session, groups, saved, interrupt))
    made = [results[i] for i in range(len(analyses))]
    if write is not None:
        write(made)
    # only now: a kill between two analyses keeps the first one's totals
    for waiting in saved:
        waiting.clear()
    return made


def _results(
    session: Session, groups: Sequence[Sequence[int]], saved: Sequence[Checkpoint], interrupt: Interrupt
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Each analysis' place in the request and its table, pass after pass."""
    loops, analyses = Loops(session), session.request.analyses
    for group, waiting in zip(groups, saved, strict=True):
        waiting.interrupt = interrupt
        kind = loops.grams if isinstance(analyses[group[0]], PerMinibatch) else loops.per_image
        for index, table in zip(group, kind(group, waiting), strict=True):
            record = table.attrs["sidecar"] = session.sidecar(index)
            for name, other in table.attrs.get("beside", {}).items():
                other.attrs["sidecar"] = {**record, "analysis": name, **other.attrs.pop("about", {})}
            yield index, table


def _identity(session: Session, group: Sequence[int]) -> Sidecar:
    """What must be the same for a pass to go on: that of its tables, together."""
    records = [session.sidecar(i) for i in group]
    names = [record["analysis"] for record in records]
    parameters = {name: record["parameters"] for name, record in zip(names, records, strict=True)}
    return {**records[0], "analysis": ",".join(names), "parameters": parameters}


class Loops:
    """The two loops over data: micro-batches of a stage, minibatches of Grams."""

    def __init__(self, session: Session) -> None:
        self.session, self.replicas, self.request = session, session.replicas, session.request

    def _pick(self, stage: Stage, bound: Run) -> Picked:
        images = bound.images if stage.data == "data" else None
        drawn = self.session.draw(stage.data, images)
        if stage.pick is None:
            return Picked(drawn, np.zeros(len(drawn), np.int32))
        return stage.pick(self.session.sources[stage.data].labels(), drawn, bound.seed)

    def per_image(self, group: Sequence[int], saved: Checkpoint) -> list[pd.DataFrame]:
        """Tables of analyses that share their passes: sums of micro-batches, stage after stage."""
        analyses = [self.request.analyses[i] for i in group]
        runs = [self.session.runs[i] for i in group]
        per_image = [a for a in analyses if isinstance(a, PerImage)]
        needed = self._needed(per_image, runs)
        plan = plan_images(
            runs[0], needed, self.session.budget, per_image[0], self.replicas.sharing, self.replicas.kind
        )
        if (only := at_once(runs[0])) and self.request.batch not in (None, only):
            raise BadInput(
                f"{runs[0].subject.name} is opened for {only} images at a time: pass --batch {only}, or none"
            )
        state = self._resumed(saved, replace(plan, micro=self.request.batch or plan.micro))
        stages = per_image[0].stages(runs[0])
        for number, stage in enumerate(stages):
            if number < state.stage:
                continue
            self._one_stage(per_image, runs, stage, state, saved)
            if number + 1 < len(stages):
                mine = _of(state.totals, per_image[0].name)
                new = per_image[0].constants(stage, mine, state.constants, runs[0])
                constants = {**state.constants, **_arrays(new)}
                state = Place(number + 1, 0, state.micro, state.replicas, {}, constants)
                saved.save(state, force=True)
        return [
            a.table(_of(state.totals, a.name), state.constants, bound) for a, bound in zip(per_image, runs, strict=True)
        ]

    def _needed(self, analyses: Sequence[PerImage], runs: Sequence[Run]) -> list[str]:
        return list(dict.fromkeys(name for a, bound in zip(analyses, runs, strict=True) for name in a.needs(bound)))

    def _one_stage(
        self, analyses: Sequence[PerImage], runs: Sequence[Run], stage: Stage, state: Place, saved: Checkpoint
    ) -> None:
        picked = self._pick(stage, runs[0])
        micro = at_once(runs[0]) or min(state.micro, len(picked.indices))
        if stage.first:
            picked = Picked(picked.indices[:micro], picked.roles[:micro])
        positions = micro_batches(len(picked.indices), micro, self.replicas.count)
        with self.replicas.strategy.scope():
            step = PerImageWalk(analyses, stage, runs, self.replicas, self.request.jit)
        constants = [{k: tf.constant(v) for k, v in state.constants.items()} for _ in analyses]
        source = self.session.sources[stage.data]
        progress = ProgressBar(len(picked.indices), state.step * micro * self.replicas.count, self.request.quiet)
        fed = feed(source, picked, positions[state.step :], [runs[0].subject.preprocessing], self.replicas)
        for batch, places in fed:
            sums = step(batch, constants)
            self._refuse_not_finite(sums, batch, state.step)
            rows = {k: sums.pop(k) for k in list(sums) if k.startswith("rows/")}
            state.totals = {**state.totals, **_filed(state.totals, rows, places, len(picked.indices))} | merged(
                state.totals, sums
            )
            state.step += 1
            saved.save(state)
            progress.add((places >= 0).sum(), stage.name)
        progress.close()

    def _refuse_not_finite(self, sums: Mapping[str, np.ndarray], batch: Any, step: int) -> None:
        if all(np.isfinite(value).all() for value in sums.values()):
            return
        where = f"in micro-batch {step}"
        local = self.replicas.strategy.experimental_local_results(batch.images[0])
        for images in local:
            tap = find_not_finite(self.session.subjects[0], images)
            if tap is not None:
                raise BadInput(f"{self.session.subjects[0].name}: tap {tap} holds NaN or infinity {where}")
        bad = next(key for key, value in sums.items() if not np.isfinite(value).all())
        raise BadInput(f"{self.session.subjects[0].name}: {bad.partition('@')[0]} is not finite {where}")

    def _resumed(self, saved: Checkpoint, plan: WalkPlan) -> Place:
        state = saved.load()
        asked = self.request.memory
        if state.replicas and asked is not None and plan.expected > asked * GB:
            raise BadInput(
                f"{saved.path}: a run that was begun with {self.session.budget / GB:.1f} GB and takes "
                f"{plan.expected / GB:.1f}: pass --memory {math.ceil(plan.expected / GB)} or more, or remove it to "
                "start anew"
            )
        state.micro = state.micro or plan.micro
        state.shared_by(self.replicas.count, saved.path)
        if not self.replicas.alone:
            # all workers begin where the chief does; the totals of the others are never written
            mine, state.stage = state.stage, self.replicas.broadcast(state.stage)
            state.step, state.micro = self.replicas.broadcast(state.step), self.replicas.broadcast(state.micro)
            if mine != state.stage:
                raise BadInput(f"{saved.path}: this worker does not see the chief's checkpoint: share --resume-dir")
        return state

    def grams(self, group: Sequence[int], saved: Checkpoint) -> Iterator[pd.DataFrame]:
        """The tables of Gram analyses that share their pass: sums of whole minibatches, one per replica and step."""
        analyses = [a for a in (self.request.analyses[i] for i in group) if isinstance(a, PerMinibatch)]
        runs = [self.session.runs[i] for i in group]
        bound, count = runs[0], self.replicas.count
        each = bound.images // bound.batch  # minibatches in a draw
        picked = self._draws(bound, max(analysis.draws() for analysis in analyses))
        plan = plan_grams(analyses, runs, self.session.budget, self.replicas.sharing, self.replicas.kind)
        state = self._resumed(saved, plan)
        positions = minibatch_chunks(len(picked.indices) // bound.batch, bound.batch, state.micro, count)
        preprocessings = [subject.preprocessing for subject in self.session.subjects]
        source, jit, room = self.session.sources["data"], self.request.jit, self.session.room
        with self.replicas.strategy.scope():
            sums = [
                GramSums(analysis, run, self.replicas, jit, room) for analysis, run in zip(analyses, runs, strict=True)
            ]
            gram = GramWalk(sums, self.replicas, plan.segment.get, jit)
            gram.prepare(_first_images(source, picked, preprocessings, PIVOT))
        fed = feed(source, picked, positions[state.step :], preprocessings, self.replicas)
        progress = ProgressBar(len(picked.indices), state.step * bound.batch * count, self.request.quiet)
        for step in range(state.step, len(positions)):
            numbers = step * count + np.arange(count)
            active = [s for s in sums if numbers[0] < each * s.analysis.draws()]
            if active != gram.sums:  # some wanted fewer draws: the others go on without their taps
                with self.replicas.strategy.scope():
                    gram = GramWalk(active, self.replicas, plan.segment.get, jit)
            chunks = [batch for batch, _ in (next(fed) for _ in range(positions.shape[1]))]
            tick = partial(progress.add, bound.batch * count / gram.stages)
            added = gram.step(chunks, *self._places(active, numbers, each), tick)
            del chunks
            rows = {key: added.pop(key) for key in list(added) if key.startswith("rows/")}
            state.totals |= merged(state.totals, added) | _spread(
                state.totals, rows, picked.indices, positions[step], source.size
            )
            state.step += 1
            saved.save(state)
        progress.close()
        for analysis, run in zip(analyses, runs, strict=True):
            yield analysis.table(_of(state.totals, analysis.name), {}, run)

    def _draws(self, bound: Run, draws: int) -> Picked:
        """The images of whole minibatches, draw after draw."""
        whole = bound.images // bound.batch * bound.batch
        if whole < bound.images:
            left = bound.images - whole
            self.session.note(f"{left} of {bound.images} images left out: no whole minibatch of {bound.batch}")
        drawn = np.stack([self.session.draw("data", bound.images, repeat) for repeat in range(draws)])
        # an image's group is its own in all draws: its place in the first one, as for analyses per image, or where it
        # would come after that
        group = np.argsort(draw(self.session.sources["data"], None, bound.seed)) % GROUPS
        group[drawn[0]] = np.arange(bound.images) % GROUPS
        indices = drawn[:, :whole].reshape(-1)
        return Picked(indices, group[indices])

    def _places(self, active: Sequence[GramSums], numbers: np.ndarray, each: int) -> tuple[list[Any], list[Any]]:
        """For each analysis the draw of the replicas' minibatches, and their weight."""
        of_draw, present = [], []
        for sums in active:
            draws = sums.analysis.draws()
            of_draw.append(self._spread((numbers // each % draws).astype(np.int32)))
            present.append(self._spread((numbers < each * draws).astype(np.float32)))
        return of_draw, present

    def _spread(self, values: np.ndarray) -> Any:
        mine = values[self.replicas.first : self.replicas.first + self.replicas.local]
        return self.replicas.spread([tf.constant(v) for v in mine])


def _first_images(source: Any, picked: Picked, preprocessings: Sequence[Any], count: int) -> list[Any]:
    first = picked.indices[:count]
    with naming_corrupt(source, first):
        return list(next(iter(batches(source, first, tuple(preprocessings), len(first))))[0])


def _filed(
    totals: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], places: np.ndarray, images: int
) -> dict[str, np.ndarray]:
    """Per-image rows put at their images' positions."""
    filed = {}
    for key, value in rows.items():
        total = totals.get(key)
        if total is None:
            total = np.zeros((images, *value.shape[1:]), value.dtype)
        total[places[places >= 0]] = value[places >= 0]
        filed[key] = total
    return filed


def _spread(
    totals: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], indices: np.ndarray, places: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Rows of whole minibatches [R * n, ...] added at their images' places in the source, under `images/`.

    `places` [chunk, R, b] in the drawn order, -1 for padding.
    """
    spread = {}
    for key, value in rows.items():
        name = key.replace("rows/", "images/", 1)
        by_replica = places.swapaxes(0, 1).reshape(places.shape[1], -1)[:, : len(value) // places.shape[1]].reshape(-1)
        total = totals.get(name, np.zeros((size, *value.shape[1:])))
        np.add.at(total, indices[by_replica[by_replica >= 0]], value[by_replica >= 0])
        spread[name] = total
    return spread


def _of(totals: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """One analysis' totals, by their own keys."""
    return {key.rpartition("@")[0]: value for key, value in totals.items() if key.rpartition("@")[2] == name}


def _arrays(constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in constants.items()}


def beside(path: epath.Path | None, group: Sequence[int]) -> epath.Path | None:
    """Where a pass of these analyses of a request keeps its state."""
    if path is None or group[0] == 0:
        return path
    return path.parent / f"{path.name}.{group[0]}"
