"""A recipe with its data read and its network built: everything that a run needs but its files."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tf_vitcnn.data import domains
from tf_vitcnn.data.sources import Source, naming_corrupt, open_source
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.provenance import environment
from tf_vitcnn.training.examples import Examples, Order, labels_of, subset
from tf_vitcnn.training.learner import cast, learner
from tf_vitcnn.training.network import Origin, origin

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.training.machine import Machine
    from tf_vitcnn.training.recipe import Recipe
    from tf_vitcnn.training.resume import Progress


SLOW_IN_XLA = ("bit", "resnet", "hybrid", "other")


class Task:
    """Checks the recipe against its data, builds the network under the strategy, reads the images."""

    def __init__(self, recipe: Recipe, machine: Machine) -> None:
        self.asked = recipe
        self.strategy = _strategy(machine.strategy)
        source, labels = _open(recipe.data, "--data", machine.data_dir)
        val, val_labels = None, None
        if recipe.val:
            val, val_labels = _open(recipe.val, "--val", machine.data_dir)
        if val is not None and val.class_names != source.class_names:
            raise BadInput(f"--val {val.spec}: its classes are not those of --data {source.spec}")
        self.source, self.indices = source, subset(labels, recipe.fraction, recipe.seed)
        if len(labels) < source.classes:
            raise BadInput(f"--data {source.spec}: {len(labels)} images of {source.classes} classes; too few to train")
        with self.strategy.scope():
            self.origin: Origin = origin(recipe, source)
        self.recipe = recipe.settled(
            len(self.indices),
            (self.origin.facts["architecture"] or {}).get("width"),
            self.origin.facts["pool"] == "gap",
        )
        self.order = Order(len(self.indices), self.recipe.batch or 1, recipe.epochs, recipe.seed, recipe.mixup)
        if self.order.batch % self.strategy.num_replicas_in_sync:
            raise BadInput(f"--batch {self.order.batch}: {self.strategy.num_replicas_in_sync} replicas must share it")
        with self.strategy.scope():
            self.work = cast(self.origin.model, self.recipe.precision)
            self.net = learner(self.work, self.recipe, self.order.steps, self._jit(machine))
        with self.reading():
            self.train = Examples(source, self.indices, labels, self.origin.preprocessing, machine.memory)
            self.val: Examples | None = None
            if val is not None and val_labels is not None:
                everything = np.arange(val.size)
                self.val = Examples(val, everything, val_labels, self.origin.preprocessing, machine.memory)

    def _jit(self, machine: Machine) -> bool | str:
        """Whether XLA compiles the step: it halves a transformer's CPU time, but runs convolutions on one core."""
        if machine.jit is not None:
            return machine.jit
        return False if machine.strategy == "cpu" and self.origin.facts["family"] in SLOW_IN_XLA else "auto"

    @property
    def identity(self) -> dict[str, Any]:
        """What an unfinished run must share with this one to be continued by it."""
        val = self.val.source.fingerprint if self.val else None
        return {"recipe": self.asked.as_dict(), "data": self.source.fingerprint, "val": val}

    def reading(self) -> AbstractContextManager[None]:
        """Names an image that cannot be decoded."""
        return naming_corrupt(self.source, self.indices)

    def steps(self, first: int) -> tf.data.Dataset:
        """The training data of every step from `first` on."""
        return self._shared(self.train.steps(self.order, self.recipe, self.source.classes, first))

    def _shared(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """The data as replicas see it: one worker, so each batch is split and nothing is sharded."""
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return data.with_options(options)

    def validate(self) -> float:
        """Share of the validation images whose largest logit is their label's."""
        if self.val is None:
            raise ValueError("no validation images")
        logits = self.net.predict(self._shared(self.val.in_order(self.order.batch)), verbose=0)
        return float(np.mean(np.argmax(logits[: len(self.val)], axis=-1) == self.val.labels))

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return float(self.net.schedule(step))

    def result(self) -> keras.Model:
        """The trained network in float32, logits its only output."""
        import keras

        model = self.origin.model
        if self.work is not model:
            model.set_weights(self.work.get_weights())
        return keras.Model(model.inputs[0], self.origin.logits, name=model.name)

    def sidecar(self, name: str) -> dict[str, Any]:
        """What goes with the log."""
        return {
            "model": name,
            "parameters": self._recipe(),
            "subjects": [],
            "data": {"spec": self.source.spec, "images": len(self.indices), "fingerprint": self.source.fingerprint},
        }

    def card(self, name: str, progress: Progress) -> dict[str, Any]:
        """What the trained model is, in full."""
        rows = progress.rows
        accuracies = [row["val_accuracy"] for row in rows] if self.val else []
        if self.val and not accuracies:
            accuracies = [self.validate()]
        return {
            "name": name,
            **self.origin.facts,
            "data": self.source.spec,
            "data_fingerprint": self.source.fingerprint,
            "val": self.val.source.spec if self.val else None,
            "fraction": self.recipe.fraction,
            "validation_images": len(self.val) if self.val else None,
            "domain": domains.of(self.source.spec),
            "training_images": len(self.indices) if self.order.steps else 0,
            "trained_on": self.source.spec if self.order.steps else None,
            "finetuned_from": _origin_name(self.recipe.start),
            "seed": self.recipe.seed,
            "image_size": list(self.origin.preprocessing.size),
            "preprocessing": self.origin.preprocessing.as_dict(),
            "classes": self.source.classes,
            "class_names": list(self.source.class_names),
            "parameters": self.origin.model.count_params(),
            "steps": progress.step,
            "final_accuracy": accuracies[-1] if accuracies else None,
            "best_accuracy": max(accuracies) if accuracies else None,
            "best_epoch": 1 + int(np.argmax(accuracies)) if rows and accuracies else None,
            "training_accuracy": rows[-1]["accuracy"] if rows else None,
            "training_loss": rows[-1]["loss"] if rows else None,
            "recipe": self.asked.as_dict(),
            "settled": self._recipe(),
            "strategy": type(self.strategy).__name__,
            "replicas": self.strategy.num_replicas_in_sync,
            "seconds": round(progress.seconds, 1),
            **environment(),
        }

    def _recipe(self) -> dict[str, Any]:
        return self.recipe.as_dict()


def _strategy(name: str | tf.distribute.Strategy) -> tf.distribute.Strategy:
    """The strategy of a name; none where its one device is TensorFlow's own choice anyway: `fit` is faster so."""
    strategy = named_strategy(name)
    gpus = len(tf.config.list_physical_devices("GPU"))
    alone = (name == "cpu" and not gpus) or (name == "gpu" and gpus == 1)
    return tf.distribute.get_strategy() if alone else strategy


def _origin_name(start: str | None) -> str | None:
    """How tables name the model that was fine-tuned: a file's stem, wherever it lies, else its spec."""
    return Path(start).stem if start and start.endswith(".keras") else start


def _open(spec: str, flag: str, data_dir: str | None) -> tuple[Source, np.ndarray]:
    source = open_source(spec, data_dir)
    return source, labels_of(source, flag)
