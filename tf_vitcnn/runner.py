"""One run: a subject, data and an analysis in; a table with its provenance out.

`run` is the Python door, scripts/analyze.py the other; both end here. Work goes through stages; after each step the
totals may be saved, so that a killed run goes on where it was and ends with the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from tf_vitcnn import analyses, memory, taps
from tf_vitcnn.analyses.base import GROUPS, Analysis, PerImage, PerMinibatch, Picked, Run, Stage, require
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.progress import Progress
from tf_vitcnn.resume import Checkpoint, Lock, Progressed, merged
from tf_vitcnn.subject import Subject, load
from tf_vitcnn.table import Sidecar


def run(
    analysis: str | Analysis,
    subject: str | Subject,
    data: Any,
    against: str | Subject | None = None,
    *,
    images: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    taps: Sequence[str] | str | None = None,
    strategy: Any = "cpu",
    memory: float | None = None,
    resume_dir: str | None = None,
    data_dir: str | None = None,
    skip_bad: bool = False,
    image_size: int | None = None,
    jit: bool = False,
    quiet: bool = True,
    **fields: Any,
) -> pd.DataFrame:
    """The table of one analysis; `.attrs["sidecar"]` says what made it.

    `analysis` by name (its parameters as keywords) or an instance; `subject` and `against` a spec or a Subject;
    `data` a spec or a source; `memory` in gigabytes; `batch` is the minibatch of Gram analyses, else the micro-batch.
    """
    request = Request(
        analyses=(make(analysis, fields),),
        data=data,
        images=images,
        batch=batch,
        seed=seed,
        taps=(taps,) if isinstance(taps, str) else tuple(taps) if taps is not None else None,
        memory=memory,
        data_dir=data_dir,
        skip_bad=skip_bad,
        jit=jit,
        quiet=quiet,
    )
    with Session(request, subject, against, strategy, image_size) as session:
        checkpoint = epath.Path(resume_dir) / f".{session.stem()}.resume.npz" if resume_dir else None
        with Lock(f"{checkpoint}.lock" if checkpoint else None):
            return session.tables(checkpoint)[0]


def make(analysis: str | Analysis, fields: Mapping[str, Any]) -> Analysis:
    """An analysis from its name and parameters; an instance stays as it is, but for the fields given."""
    if isinstance(analysis, Analysis):
        return replace(analysis, **fields) if fields else analysis
    kind = analyses.find(analysis)
    known = list(kind.__dataclass_fields__)
    for name in fields:
        if name not in known:
            raise unknown(f"parameter of {analysis}", name, known)
    return kind(**fields)


@dataclass(frozen=True)
class Request:
    """What was asked for, apart from the subjects."""

    analyses: tuple[Analysis, ...]
    data: Any
    images: int | None = None
    batch: int | None = None
    seed: int = 0
    taps: tuple[str, ...] | None = None
    memory: float | None = None
    data_dir: str | None = None
    skip_bad: bool = False
    jit: bool = False
    quiet: bool = False


@dataclass
class Session:
    """A request bound to its subjects, sources and devices: everything checked before anything is computed."""

    request: Request
    model: str | Subject
    other: str | Subject | None
    strategy: Any = "cpu"
    image_size: int | None = None
    names: tuple[str | None, str | None] = (None, None)
    tag: str | None = None
    notes: list[str] = field(default_factory=list)

    def __enter__(self) -> Session:
        """Opens sources, loads subjects, checks the request."""
        from tf_vitcnn import devices

        self.begun = time.monotonic()
        first = self.request.analyses[0]
        for analysis in self.request.analyses:
            self._check_against(analysis)
        strategy = devices.strategy(self.strategy)
        self.replicas = devices.Replicas(strategy)
        self.chief = devices.is_chief(strategy)
        self.sources = {"data": self._open(self.request.data)}
        for analysis in self.request.analyses:
            for name in _source_fields(analysis):
                self.sources[name] = self._open(getattr(analysis, name))
        self._check_labels()
        with strategy.scope():
            given = [self.model] if self.other is None else [self.model, self.other]
            self.subjects = tuple(
                load(one, image_size=self.image_size, name=name) if isinstance(one, str) else one
                for one, name in zip(given, self.names, strict=False)
            )
        if len(self.subjects) == 2 and self.subjects[0].name == self.subjects[1].name:
            raise BadInput(f"both models are called {self.subjects[0].name!r}: tell them apart with --against-name")
        self.budget = memory.limit(self.request.memory)
        self.runs = tuple(self._bind(analysis) for analysis in self.request.analyses)
        self.first = first
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing outlives the session."""

    # --- what the request means for these subjects ---

    def _check_against(self, analysis: Analysis) -> None:
        if analysis.against == "no" and self.other is not None:
            raise BadInput(f"{analysis.name} looks at one model; run it once for each, without --against")
        if analysis.against == "must" and self.other is None:
            raise BadInput(f"{analysis.name} compares two models: name the other with --against")

    def _open(self, data: Any) -> Any:
        from tf_vitcnn.data.base import Source
        from tf_vitcnn.data.sources import open_source

        return data if isinstance(data, Source) else open_source(data, self.request.data_dir)

    def _check_labels(self) -> None:
        for analysis in self.request.analyses:
            if analysis.needs_labels and self.sources["data"].labels() is None:
                raise BadInput(f"{analysis.name} needs labels, and {self.sources['data'].spec} has none")

    def _bind(self, analysis: Analysis) -> Run:
        asked, have = self.request.images, self.sources["data"].size
        images = asked if asked is not None else min(analysis.images or have, have)
        if images > have or images < 1:
            raise BadInput(f"{self.sources['data'].spec}: {images} images wanted; it has {have}")
        size = 0
        if isinstance(analysis, PerMinibatch):
            size = self.request.batch or analysis.batch or images
            if images < size:
                raise BadInput(
                    f"{self.sources['data'].spec}: {images} images are fewer than one minibatch of {size}; "
                    f"pass --batch {images} or less"
                )
        bound = Run(
            subjects=self.subjects,
            taps=self._chosen(analysis),
            images=images,
            batch=size,
            seed=self.request.seed,
            note=self.note,
            sources=self.sources,
            memory=int(self.budget),
        )
        # what an analysis cannot do with these subjects it says now, before anything is computed
        if isinstance(analysis, PerMinibatch):
            analysis.views(bound)
        elif isinstance(analysis, PerImage):
            analysis.needs(bound)
        return bound

    def _chosen(self, analysis: Analysis) -> tuple[tuple[str, ...], ...]:
        globs = self.request.taps
        if globs is None:
            return tuple(tuple(analysis.default_taps(subject)) for subject in self.subjects)
        every = [name for subject in self.subjects for name in subject.taps]
        wanted = set(taps.select(list(dict.fromkeys(every)), globs))
        return tuple(tuple(name for name in subject.taps if name in wanted) for subject in self.subjects)

    def note(self, line: str) -> None:
        """A line for the log and for the sidecar, once."""
        if line not in self.notes:
            self.notes.append(line)
            if not self.request.quiet:
                print(line, file=sys.stderr, flush=True)

    # --- what identifies the tables ---

    def stem(self) -> str:
        """The tables' file name: the subjects' names."""
        return "--".join(subject.name for subject in self.subjects)

    def sidecar(self, index: int) -> Sidecar:
        """Everything that identifies one table, and the environment that made it."""
        analysis, bound = self.request.analyses[index], self.runs[index]
        parameters = {**analysis.parameters(), "images": bound.images, "seed": bound.seed}
        if isinstance(analysis, PerMinibatch):
            parameters["batch"] = bound.batch
        parameters["taps"] = list(self.request.taps) if self.request.taps is not None else None
        return {
            "format": 1,
            "analysis": analysis.name,
            "model": self.subjects[0].name,
            "against": self.subjects[1].name if len(self.subjects) == 2 else None,
            "tag": self.tag,
            "parameters": parameters,
            "subjects": [self._describe(subject) for subject in self.subjects],
            "data": self._data(bound, analysis),
            "notes": list(self.notes),
            "environment": self._environment(),
        }

    def _describe(self, subject: Subject) -> dict[str, Any]:
        known = {"name": subject.name, "parameters": subject.model.count_params(), "taps": subject.taps}
        shape = subject.model.input_shape[1:3]
        return {**subject.provenance, **known, "image_size": list(shape), "preprocessing": _plain(subject)}

    def _data(self, bound: Run, analysis: Analysis) -> dict[str, Any]:
        source = self.sources["data"]
        record = {"spec": source.spec, "images": bound.images, "available": source.size}
        others = {name: self.sources[name].fingerprint for name in _source_fields(analysis)}
        return {**record, "fingerprint": source.fingerprint, "skipped": list(getattr(self, "skipped", [])), **others}

    def _environment(self) -> dict[str, Any]:
        packages = ("tensorflow", "keras", "numpy", "pandas")
        return {
            "versions": {name: importlib.metadata.version(name) for name in packages}
            | {"python": platform.python_version()},
            "git_commit": _commit(),
            "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.begun, 1),
            "strategy": type(self.replicas.strategy).__name__,
            "replicas": self.replicas.count,
        }

    def keep(self, indices: Sequence[int]) -> None:
        """Leaves the other analyses out: their tables are there already."""
        self.request = replace(self.request, analyses=tuple(self.request.analyses[i] for i in indices))
        self.runs = tuple(self.runs[i] for i in indices)

    def forecast(self) -> str:
        """What the run would do: taps, images, expected memory and time, from one timed micro-batch."""
        lines = []
        for analysis, bound in zip(self.request.analyses, self.runs, strict=True):
            work = 1.0
            for subject, chosen in zip(self.subjects, bound.taps, strict=True):
                lines.append(f"{analysis.name}: {subject.name}: {len(chosen)} taps: {', '.join(chosen)}")
            if isinstance(analysis, PerMinibatch):
                plan = memory.grams(analysis, bound, self.budget, self.replicas.local)
                images = bound.images // bound.batch * bound.batch * analysis.draws()
                lines.append(f"{images} images, minibatches of {bound.batch}, micro-batches of {plan.micro}")
            elif isinstance(analysis, PerImage):
                plan = memory.per_image(bound, analysis.needs(bound), self.budget, analysis)
                images = bound.images
                work = analysis.passes(bound)
                lines.append(f"{images} images, micro-batches of {plan.micro}")
            seconds = (
                sum(_seconds_per_image(s, plan.micro) for s in self.subjects) * images * work / self.replicas.count
            )
            lines.append(
                f"expected memory {plan.expected / 1e9:.1f} GB; forward passes {seconds / 60:.1f} min at least"
            )
        return "\n".join(lines)

    # --- the computation ---

    def tables(self, checkpoint: epath.Path | None = None) -> list[pd.DataFrame]:
        """The finished tables, in the request's order, each with its sidecar in `.attrs`."""
        identity = {**self.sidecar(0), "analysis": ",".join(a.name for a in self.request.analyses)}
        identity["parameters"] = {a.name: self.sidecar(i)["parameters"] for i, a in enumerate(self.request.analyses)}
        saved = Checkpoint(checkpoint if self.chief else None, identity)
        if checkpoint is not None and not self.chief:
            saved.path = None
        results: dict[int, pd.DataFrame] = {}
        for group in self._shared():
            kind = self._grams if isinstance(self.request.analyses[group[0]], PerMinibatch) else self._per_image
            part = Checkpoint(_beside(saved.path, group), identity)
            for index, table in zip(group, kind(group, part), strict=True):
                table.attrs["sidecar"] = self.sidecar(index)
                results[index] = table
            self._finished = [*getattr(self, "_finished", []), part]
        for part in self._finished:
            part.clear()
        return [results[i] for i in range(len(self.request.analyses))]

    def _shared(self) -> list[list[int]]:
        """Analyses that can share one pass over the data, together: single-stage, per image, the same images."""
        groups: dict[Any, list[int]] = {}
        for i, (analysis, bound) in enumerate(zip(self.request.analyses, self.runs, strict=True)):
            alone = isinstance(analysis, PerMinibatch) or len(self._stages(analysis, bound)) > 1
            alone |= getattr(analysis, "micro", None) is not None
            groups.setdefault(("alone", i) if alone else ("images", bound.images), []).append(i)
        return list(groups.values())

    @staticmethod
    def _stages(analysis: Analysis, bound: Run) -> Sequence[Stage]:
        return analysis.stages(bound) if isinstance(analysis, PerImage) else ()

    def _draw(self, name: str, images: int | None, seed: int) -> np.ndarray:
        from tf_vitcnn.data.sources import draw, draw_good

        if not self.request.skip_bad:
            return draw(self.sources[name], images, seed)
        good, bad = draw_good(self.sources[name], images, seed)
        self.skipped = sorted({*getattr(self, "skipped", []), *bad})
        for line in bad:
            self.note(f"skipped: {line}")
        return good

    def _pick(self, stage: Stage, bound: Run) -> Picked:
        images = bound.images if stage.data == "data" else None
        drawn = self._draw(stage.data, images, bound.seed)
        if stage.pick is None:
            return Picked(drawn, np.zeros(len(drawn), np.int32))
        return stage.pick(self.sources[stage.data].labels(), drawn, bound.seed)

    def _per_image(self, group: Sequence[int], saved: Checkpoint) -> list[pd.DataFrame]:
        jobs = [self.request.analyses[i] for i in group]
        runs = [self.runs[i] for i in group]
        per_image = [a for a in jobs if isinstance(a, PerImage)]
        plan = memory.per_image(runs[0], self._needed(per_image, runs), self.budget, per_image[0])
        state = self._resumed(saved, plan)
        stages = per_image[0].stages(runs[0])
        for number, stage in enumerate(stages):
            if number < state.stage:
                continue
            self._one_stage(per_image, runs, stage, state, saved)
            if number + 1 < len(stages):
                mine = _of(state.totals, per_image[0].name)
                new = per_image[0].constants(stage, mine, state.constants, runs[0])
                state = Progressed(number + 1, 0, state.micro, {}, {**state.constants, **_arrays(new)})
                saved.save(state, force=True)
        return [
            a.table(_of(state.totals, a.name), state.constants, bound) for a, bound in zip(per_image, runs, strict=True)
        ]

    def _needed(self, jobs: Sequence[PerImage], runs: Sequence[Run]) -> list[str]:
        return list(dict.fromkeys(name for a, bound in zip(jobs, runs, strict=True) for name in a.needs(bound)))

    def _one_stage(
        self, jobs: Sequence[PerImage], runs: Sequence[Run], stage: Stage, state: Progressed, saved: Checkpoint
    ) -> None:
        import tensorflow as tf

        from tf_vitcnn import feed, walk

        picked = self._pick(stage, runs[0])
        micro = min(state.micro, len(picked.indices))
        if stage.first:
            picked = Picked(picked.indices[:micro], picked.roles[:micro])
        positions = feed.micro_batches(len(picked.indices), micro, self.replicas.count)
        with self.replicas.strategy.scope():
            step = walk.PerImageWalk(jobs, stage, runs, self.replicas, self.request.jit)
        constants = [{k: tf.constant(v) for k, v in state.constants.items()} for _ in jobs]
        source = self.sources[stage.data]
        progress = Progress(len(picked.indices), state.step * micro * self.replicas.count, self.request.quiet)
        fed = feed.feed(source, picked, positions[state.step :], [runs[0].subject.preprocessing], self.replicas)
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
        from tf_vitcnn import walk

        if all(np.isfinite(value).all() for value in sums.values()):
            return
        local = self.replicas.strategy.experimental_local_results(batch.images[0])
        for images in local:
            tap = walk.find_not_finite(self.subjects[0], images)
            if tap is not None:
                raise BadInput(f"{self.subjects[0].name}: tap {tap} holds NaN or infinity in micro-batch {step}")
        bad = next(key for key, value in sums.items() if not np.isfinite(value).all())
        raise BadInput(f"{self.subjects[0].name}: {bad.partition('@')[0]} is NaN or infinite in micro-batch {step}")

    def _resumed(self, saved: Checkpoint, plan: memory.Plan) -> Progressed:
        state = saved.load()
        state.micro = state.micro or (self.request.batch if plan.segment == {} and self.request.batch else plan.micro)
        # workers whose chief resumed must begin at the same step; their own totals are never written
        state.stage, state.step = self.replicas.broadcast(state.stage), self.replicas.broadcast(state.step)
        return state

    def _grams(self, group: Sequence[int], saved: Checkpoint) -> Iterator[pd.DataFrame]:
        from tf_vitcnn import feed, walk

        analysis, bound = self.request.analyses[group[0]], self.runs[group[0]]
        assert isinstance(analysis, PerMinibatch)
        each = bound.images // bound.batch
        if dropped := bound.images - each * bound.batch:
            self.note(f"{dropped} of {bound.images} images left out: they do not fill a minibatch of {bound.batch}")
        drawn = [
            self._draw("data", bound.images, bound.seed + r)[: each * bound.batch] for r in range(analysis.draws())
        ]
        picked = Picked(np.concatenate(drawn), np.zeros(each * bound.batch * len(drawn), np.int32))
        plan = memory.grams(analysis, bound, self.budget, self.replicas.local)
        state = self._resumed(saved, plan)
        count = self.replicas.count
        positions = feed.minibatch_chunks(each * len(drawn), bound.batch, state.micro, count)
        preprocessings = [subject.preprocessing for subject in self.subjects]
        with self.replicas.strategy.scope():
            gram = walk.GramWalk(analysis, bound, self.replicas, plan.segment.get, self.request.jit)
            gram.prepare(_first_images(self.sources["data"], picked, preprocessings, walk.PIVOT))
        steps, chunks = positions.shape[:2]
        fed = feed.feed(self.sources["data"], picked, positions[state.step :], preprocessings, self.replicas)
        progress = Progress(len(picked.indices), state.step * bound.batch * count, self.request.quiet)
        tick = bound.batch * count / gram.stages
        for step in range(state.step, steps):
            micro = [batch for batch, _ in (next(fed) for _ in range(chunks))]
            numbers = step * count + np.arange(count)
            groups = numbers // each if analysis.draws() > 1 else numbers
            present = numbers < each * len(drawn)
            sums = gram.step(
                micro,
                self._spread((groups % max(GROUPS, analysis.draws())).astype(np.int32)),
                self._spread(present.astype(np.float32)),
                lambda stage: progress.add(tick, stage),
            )
            del micro
            state.totals = merged(state.totals, sums)
            state.step += 1
            saved.save(state)
        progress.close()
        yield analysis.table(state.totals, {}, bound)

    def _spread(self, values: np.ndarray) -> Any:
        import tensorflow as tf

        mine = values[self.replicas.first : self.replicas.first + self.replicas.local]
        return self.replicas.spread([tf.constant(v) for v in mine])


def _first_images(source: Any, picked: Picked, preprocessings: Sequence[Any], count: int) -> list[Any]:
    from tf_vitcnn.data.sources import batches, naming_corrupt

    first = picked.indices[:count]
    with naming_corrupt(source, first):
        return list(next(iter(batches(source, first, tuple(preprocessings), len(first))))[0])


def _source_fields(analysis: Analysis) -> list[str]:
    """The fields that hold specs of further sources (a probe's test images)."""
    return [name for name in getattr(analysis, "source_fields", ()) if getattr(analysis, name)]


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


def _of(totals: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """One analysis' totals, by their own keys."""
    return {key.rpartition("@")[0]: value for key, value in totals.items() if key.rpartition("@")[2] == name}


def _arrays(constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in constants.items()}


def _beside(path: epath.Path | None, group: Sequence[int]) -> epath.Path | None:
    if path is None or group[0] == 0:
        return path
    return path.parent / f"{path.name}.{group[0]}"


def _seconds_per_image(subject: Subject, micro: int) -> float:
    """A forward pass after its warm-up."""
    import tensorflow as tf

    images = tf.zeros([micro, *subject.model.input_shape[1:]])
    forward = tf.function(lambda x: list(subject.model(x, training=False).values())[-1])
    forward(images)
    begun = time.perf_counter()
    forward(images).numpy()
    return (time.perf_counter() - begun) / micro


def _plain(subject: Subject) -> Any:
    as_dict = getattr(subject.preprocessing, "as_dict", None)
    return as_dict() if as_dict else str(subject.preprocessing)


def _commit() -> str | None:
    """The git commit of this checkout, None where there is none."""
    try:
        here = Path(__file__).parent
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


__all__ = ["Request", "Session", "make", "require", "run"]
