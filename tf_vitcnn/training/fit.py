"""Trains the model of a recipe: DIR/NAME.keras with its card and log beside it.

An unfinished run leaves DIR/NAME.state.npz; the same call goes on from it, and ends where an uninterrupted one does
(only `images_per_second`, a stop-watch's word, differs). A finished run is left as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_vitcnn.devices.start import start_tensorflow
from tf_vitcnn.engine.interrupt import Interrupt, between_steps
from tf_vitcnn.engine.resume import Lock
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts, replacing
from tf_vitcnn.tables.write import table_files
from tf_vitcnn.training import card, log, resume
from tf_vitcnn.training.machine import Machine
from tf_vitcnn.training.recipe import Recipe

if TYPE_CHECKING:
    from tf_vitcnn.training.task import Task


@dataclass(frozen=True)
class Place:
    """The files of a run."""

    directory: Path
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.name) or self.name.startswith("."):
            raise BadInput(f"--name {self.name!r}: expected letters, digits and . _ + - only")

    @property
    def model(self) -> Path:
        """The trained network; it is written last."""
        return self.directory / f"{self.name}.keras"

    @property
    def card(self) -> Path:
        """What it is."""
        return self.directory / f"{self.name}.card.json"

    @property
    def log(self) -> Path:
        """The log without its suffix."""
        return self.directory / f"{self.name}.log"

    @property
    def state(self) -> Path:
        """Where an unfinished run is."""
        return self.directory / f"{self.name}.state.npz"

    @property
    def lock(self) -> Path:
        """Held by the one process that trains."""
        return self.directory / f".{self.name}.lock"

    def tidy(self) -> None:
        """Removes what a killed process was writing."""
        discard_parts(self.model, self.card, self.state, *table_files(self.log))


def train(recipe: Recipe, out: Path | str, name: str | None = None, machine: Machine | None = None) -> Path:
    """The path of the trained model's `.keras` file; trains it unless it is there."""
    place, machine = Place(Path(out), name or recipe.model or _stem(recipe.start or "")), machine or Machine()
    if finished(place, recipe):
        place.state.unlink(missing_ok=True)  # a kill after the model was written left it
        return place.model
    _check_strategy(machine)
    start_tensorflow()
    from tf_vitcnn.devices.precision import in_precision
    from tf_vitcnn.training.task import Task

    task = Task(recipe, machine)
    with in_precision(recipe.compute), Lock(place.lock, f"{place.model} is being trained by another process"):
        _check_state(place, task.identity)
        place.tidy()
        progress = _run(task, place, machine)
        _finish(task, place, progress)
    return place.model


def expected(recipe: Recipe, machine: Machine | None = None, steps: int = 3) -> float:
    """Seconds that a training would take at least, from a few of its steps once they are compiled."""
    machine = machine or Machine()
    _check_strategy(machine)
    start_tensorflow()
    from tf_vitcnn.devices.precision import in_precision
    from tf_vitcnn.training.task import Task

    if not recipe.epochs:
        return 0.0
    task = Task(recipe, machine)
    with in_precision(recipe.compute):
        task.net.make_train_function()
        step, data = task.net.train_function, iter(task.steps(0).repeat())
        step(data)
        begun = time.perf_counter()
        for _ in range(steps):
            step(data)
        each = (time.perf_counter() - begun) / steps
    # validation: a forward pass is a third of a step
    validated = len(task.val or ()) * recipe.epochs / task.order.batch / 3
    return each * (task.order.steps + validated)


def _stem(spec: str) -> str:
    """The name that a model spec suggests."""
    return re.sub(r"[^\w.+-]+", "_", Path(spec).name.removesuffix(".keras"))


def finished(place: Place, recipe: Recipe) -> bool:
    """Whether the recipe's model is there; another run's is an error."""
    if not place.model.exists():
        return False
    if not place.card.exists():
        raise BadInput(f"{place.model} is there without its card: it is no run of ours; take another --name or --out")
    old, new = card.read(place.card)["recipe"], recipe.as_dict()
    if old != new:
        raise BadInput(f"{place.model} holds another run ({_differences(old, new)}); take another --name or --out")
    return True


def _check_strategy(machine: Machine) -> None:
    if machine.strategy == "multiworker":
        raise BadInput("--strategy multiworker: Keras' fit does not train on several workers; use mirrored or tpu")
    if machine.tensorboard:
        import importlib.util

        if importlib.util.find_spec("tensorboard") is None:
            raise BadInput("--tensorboard: tensorboard is not installed; pip install tensorboard")


def _check_state(place: Place, identity: dict[str, Any]) -> None:
    if not place.state.exists():
        return
    old = resume.read_identity(place.state)
    if old != identity:
        raise BadInput(
            f"{place.state} belongs to another, unfinished run ({_differences(_flat(old), _flat(identity))}); "
            f"finish it with its own flags, remove it, or take another --name or --out"
        )


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity["recipe"], "data's content": identity["data"], "validation's content": identity["val"]}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    pairs = [f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in new if old.get(key) != new.get(key)]
    return "; ".join(pairs[:3]) or "other settings"


def _run(task: Task, place: Place, machine: Machine) -> resume.Progress:
    """Fits the network from where the run is; where it then is."""
    from tf_vitcnn.training.learner import state_of

    variables = state_of(task.net)
    progress = resume.restore(place.state, variables) if place.state.exists() else resume.Progress()
    with between_steps() as interrupt:
        _fit(task, place, machine, progress, interrupt)
    return progress


def _fit(task: Task, place: Place, machine: Machine, progress: resume.Progress, interrupt: Interrupt) -> None:
    from tf_vitcnn.training.journal import Journal
    from tf_vitcnn.training.learner import state_of

    journal = Journal(
        task.order,
        progress,
        validate=task.validate if task.val else None,
        rate=task.rate,
        keep=lambda at: resume.save(place.state, task.identity, at, state_of(task.net)),
        record=lambda rows: log.write(place.log, rows, task.sidecar(place.name)),
        pause=machine.save_seconds,
        interrupt=interrupt,
    )
    callbacks = [journal]
    if machine.tensorboard:
        import keras

        callbacks.append(keras.callbacks.TensorBoard(str(place.directory / f"{place.name}.tensorboard")))
    try:
        for start, stop, steps in _spans(task.order.epoch_steps, progress.step, task.order.epochs):
            with task.reading():
                task.net.fit(
                    task.steps(progress.step),
                    initial_epoch=start,
                    epochs=stop,
                    steps_per_epoch=steps,
                    callbacks=callbacks,
                    shuffle=False,  # the steps are in order already
                    verbose=0,
                )
    finally:
        journal.close()
    journal.stop_clock()


def _spans(epoch_steps: int, done: int, epochs: int) -> Iterator[tuple[int, int, int]]:
    """First epoch, end and steps of each call of `fit`: what is left of a broken epoch, then the whole ones."""
    epoch, over = divmod(done, epoch_steps)
    if over:
        yield epoch, epoch + 1, epoch_steps - over
        epoch += 1
    if epoch < epochs:
        yield epoch, epochs, epoch_steps


def _finish(task: Task, place: Place, progress: resume.Progress) -> None:
    """Writes log, card and, last, the model: what has a model is finished."""
    log.write(place.log, progress.rows, task.sidecar(place.name))
    card.write(place.card, task.card(place.name, progress))
    with replacing(place.model) as part:
        task.result().save(part)
    place.state.unlink(missing_ok=True)
