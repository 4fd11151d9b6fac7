"""A request bound to its subjects, data and devices: everything checked before anything is computed."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np

from tf_vitcnn import taps
from tf_vitcnn.analyses.base import Analysis, PerImage, PerMinibatch, Run
from tf_vitcnn.checkpoints.load import load
from tf_vitcnn.data.given import source_of
from tf_vitcnn.data.sources import Sound, Source, draw, open_source
from tf_vitcnn.devices.precision import in_precision, known
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.room import Room
from tf_vitcnn.devices.strategy import is_chief, named_strategy
from tf_vitcnn.engine.request import Request
from tf_vitcnn.errors import BadInput
from tf_vitcnn.subject import Subject
from tf_vitcnn.tables.provenance import environment
from tf_vitcnn.tables.schema import Sidecar

_told: weakref.WeakSet[Any] = weakref.WeakSet()  # models whose notes were said: once, however many tables they get


@dataclass
class Session:
    """A request bound to its subjects, sources and devices: everything checked before anything is computed."""

    request: Request
    model: Any  # a spec, a Keras model or a Subject
    other: Any
    strategy: Any = "cpu"
    image_size: int | None = None
    names: tuple[str | None, str | None] = (None, None)
    tag: str | None = None
    said: tuple[dict[str, Any], dict[str, Any]] = field(default_factory=lambda: ({}, {}))  # of each model: `load`'s
    notes: list[str] = field(default_factory=list)

    def __enter__(self) -> Session:
        """Opens sources, loads subjects, checks the request."""
        self.begun = time.monotonic()
        known(self.request.compute)
        for analysis in self.request.analyses:
            self._check_against(analysis)
        strategy = named_strategy(self.strategy)
        self.replicas = Replicas(strategy)
        self.chief = is_chief(strategy)
        self.sources = {"data": self._open(self.request.data)}
        for analysis in self.request.analyses:
            for name in source_fields(analysis):
                self.sources[name] = self._open(getattr(analysis, name))
        self.sound = {name: Sound(source) for name, source in self.sources.items()} if self.request.skip_bad else {}
        self._check_labels()
        with strategy.scope():
            given = [self.model] if self.other is None else [self.model, self.other]
            self.subjects = tuple(
                one if isinstance(one, Subject) else load(one, image_size=self.image_size, name=name, **said)
                for one, name, said in zip(given, self.names, self.said, strict=False)
            )
        for subject in self.subjects:
            for note in subject.provenance.get("notes", ()):
                self.note(note, aloud=subject.model not in _told)
            if not self.request.quiet:
                _told.add(subject.model)
        if len(self.subjects) == 2 and self.subjects[0].name == self.subjects[1].name:
            raise BadInput(f"both models are called {self.subjects[0].name!r}: tell them apart with --against-name")
        self.room = self._room()
        self.runs = tuple(self._bind(analysis) for analysis in self.request.analyses)
        self._products = in_precision(self.request.compute)
        self._products.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing outlives the session."""
        self._products.__exit__(None, None, None)

    def _room(self) -> Room:
        """What every worker has: they take the same steps."""
        products = {a.product_type() for a in self.request.analyses if isinstance(a, PerMinibatch)}
        found = Room.found(self.request.memory, self.replicas.strategy, "bfloat16" in products)
        return Room(*(min(self.replicas.each(number)) for number in astuple(found)))

    def settle(self, begun: Room | None) -> None:
        """Goes on with the room that the run was begun with, on all workers the one that the chief knows of."""
        numbers = [self.replicas.broadcast(number) for number in astuple(begun or self.room)]
        self.room = Room(*numbers)
        self.runs = tuple(replace(run, memory=self.room.device, host=self.room.host) for run in self.runs)

    @property
    def budget(self) -> int:
        """Bytes that the run may take where a replica computes."""
        return self.room.device

    # --- what the request means for these subjects ---

    def _check_against(self, analysis: Analysis) -> None:
        if analysis.against == "no" and self.other is not None:
            raise BadInput(f"{analysis.name} looks at one model; run it once for each, without --against")
        if analysis.against == "must" and self.other is None:
            raise BadInput(f"{analysis.name} compares two models: name the other with --against")

    def _open(self, data: Any) -> Any:
        if isinstance(data, str):
            return open_source(data, self.request.data_dir)
        return data if isinstance(data, Source) else source_of(data)

    def _check_labels(self) -> None:
        for analysis in self.request.analyses:
            if analysis.needs_labels and self.sources["data"].labels() is None:
                raise BadInput(f"{analysis.name} needs labels, and {self.sources['data'].spec} has none")

    def _bind(self, analysis: Analysis) -> Run:
        asked, have = self.request.images, self.sources["data"].size
        images = asked if asked is not None else min(analysis.images or have, have)
        if images > have or images < 1:
            raise BadInput(f"{self.sources['data'].spec}: {images} images wanted; it has {have}")
        if self.sound:
            images = self._sound_images(images, as_asked=asked is not None)
        size = 0
        if isinstance(analysis, PerMinibatch):
            size = self.request.batch or analysis.batch or images
            if min(images, size) < analysis.least:
                raise BadInput(
                    f"{images} images in minibatches of {min(images, size)}: {analysis.name} needs at least "
                    f"{analysis.least} in each (--images, --batch)"
                )
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
            memory=self.room.device,
            host=self.room.host,
        )
        # what an analysis cannot do with these subjects it says now, before anything is computed
        if isinstance(analysis, PerMinibatch):
            analysis.views(bound)
            analysis.pairs_of_images(bound)
        elif isinstance(analysis, PerImage):
            analysis.needs(bound)
        return bound

    def _sound_images(self, wanted: int, as_asked: bool) -> int:
        """How many images can be decoded, up to those wanted; fewer than were asked for are refused."""
        found = len(self.draw("data", wanted))
        if not found or (as_asked and found < wanted):
            spec = self.sources["data"].spec
            raise BadInput(f"{spec}: {wanted} images wanted; it has {found} that can be decoded")
        return found

    def draw(self, name: str, images: int | None, repeat: int = 0) -> np.ndarray:
        """Indices of a draw of a source's images, of the sound ones where corrupt ones are to be left out."""
        if not self.sound:
            return draw(self.sources[name], images, self.request.seed, repeat)
        drawn = self.sound[name].draw(images, self.request.seed, repeat)
        for line in self.skipped:
            self.note(f"skipped: {line}")
        return drawn

    @property
    def skipped(self) -> list[str]:
        """Corrupt images that were left out."""
        return sorted(line for sound in self.sound.values() for line in sound.skipped)

    def _chosen(self, analysis: Analysis) -> tuple[tuple[str, ...], ...]:
        globs, others = self.request.taps, self.request.against_taps
        if others is not None:
            if len(self.subjects) == 1:
                raise BadInput("--against-taps: there is no other model; name it with --against")
            each = zip(self.subjects, (globs, others), strict=True)
            return tuple(tuple(self._selected(analysis, subject, asked)) for subject, asked in each)
        if globs is None:
            return tuple(tuple(analysis.default_taps(subject)) for subject in self.subjects)
        every = [name for subject in self.subjects for name in subject.taps]
        wanted = set(taps.select(list(dict.fromkeys(every)), globs))
        return tuple(tuple(name for name in subject.taps if name in wanted) for subject in self.subjects)

    def _selected(self, analysis: Analysis, subject: Subject, globs: tuple[str, ...] | None) -> Sequence[str]:
        return analysis.default_taps(subject) if globs is None else taps.select(subject.taps, globs)

    def note(self, line: str, aloud: bool = True) -> None:
        """A line for the log and for the sidecar, once."""
        if line not in self.notes:
            self.notes.append(line)
            if aloud and not self.request.quiet:
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
        if self.request.compute != "float32":  # which tables have said nothing of so far
            parameters["compute"] = self.request.compute
        parameters["taps"] = list(self.request.taps) if self.request.taps is not None else None
        if self.request.against_taps is not None:
            parameters["against_taps"] = list(self.request.against_taps)
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
        shape = subject.model.inputs[0].shape[1:3]
        return {**subject.provenance, **known, "image_size": list(shape), "preprocessing": _plain(subject)}

    def _data(self, bound: Run, analysis: Analysis) -> dict[str, Any]:
        source = self.sources["data"]
        record = {"spec": source.spec, "images": bound.images, "available": source.size}
        others = {name: self.sources[name].fingerprint for name in source_fields(analysis)}
        return {**record, "fingerprint": source.fingerprint, "skipped": self.skipped, **others}

    def _environment(self) -> dict[str, Any]:
        return environment() | {
            "seconds": round(time.monotonic() - self.begun, 1),
            "strategy": type(self.replicas.strategy).__name__,
            "replicas": self.replicas.count,
            "compute": self.request.compute,
        }

    def keep(self, indices: Sequence[int]) -> None:
        """Leaves the other analyses out: their tables are there already."""
        self.request = replace(self.request, analyses=tuple(self.request.analyses[i] for i in indices))
        self.runs = tuple(self.runs[i] for i in indices)


def source_fields(analysis: Analysis) -> list[str]:
    """The fields that hold specs of further sources (a probe's test images)."""
    return [name for name in getattr(analysis, "source_fields", ()) if getattr(analysis, name)]


def _plain(subject: Subject) -> Any:
    as_dict = getattr(subject.preprocessing, "as_dict", None)
    return as_dict() if as_dict else str(subject.preprocessing)
