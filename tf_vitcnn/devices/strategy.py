"""Where the computation runs: the tf.distribute strategy and the precision of products, chosen in one place."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator

import tensorflow as tf

from tf_vitcnn.devices.rendezvous import meet
from tf_vitcnn.errors import BadInput, first_line

# what a collective raises when its other side is gone
LOST = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError),
    *(tf.errors.InternalError, tf.errors.FailedPreconditionError),
)
CHOICES = ("cpu", "gpu", "mirrored", "multiworker", "tpu", "tpu:NAME")


def named_strategy(name: str | tf.distribute.Strategy) -> tf.distribute.Strategy:
    """The strategy of a name: cpu, gpu, mirrored, multiworker, tpu or tpu:NAME."""
    if isinstance(name, tf.distribute.Strategy):
        return name
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if name == "gpu":
        if not tf.config.list_physical_devices("GPU"):
            raise BadInput("--strategy gpu: TensorFlow sees no GPU here; use cpu")
        # float32 means float32: TF32 would cost three digits without saying so
        tf.config.experimental.enable_tensor_float_32_execution(False)
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    if name == "mirrored":
        devices = [d.name for d in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
        tf.config.experimental.enable_tensor_float_32_execution(False)
        return tf.distribute.MirroredStrategy(devices)
    if name == "multiworker":
        return _multiworker()
    if name == "tpu" or name.startswith("tpu:"):
        return _tpu(name.partition(":")[2])
    raise BadInput(f"unknown strategy {name!r}; available: {', '.join(CHOICES)}")


@contextlib.contextmanager
def naming_lost_worker(name: str | tf.distribute.Strategy) -> Iterator[None]:
    """Turns what TensorFlow raises in the workers that are left, when one is lost, into one line."""
    try:
        yield
    except LOST as error:
        if name != "multiworker":
            raise
        reason = re.sub(r"\{\{.*?\}\}\s*", "", first_line(error))[:200]
        raise BadInput(
            f"another worker ended or cannot be reached ({reason}); start all workers again: they go on where they were"
        ) from error


def _multiworker() -> tf.distribute.Strategy:
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        known = len(config["cluster"]["worker"]) > int(config["task"]["index"])
    except (KeyError, ValueError, TypeError):
        known = False
    if not known:
        raise BadInput(
            "--strategy multiworker needs TF_CONFIG in the environment: "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        )
    task = config["task"]
    workers = [address for job in ("chief", "worker") for address in config["cluster"].get(job, ())]
    own = config["cluster"][task.get("type", "worker")][int(task["index"])]
    meet(own, [address for address in workers if address != own])
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(name: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # whatever the runtime raises, the user's question is the same
        reason = str(error).splitlines()[0][:200]
        raise BadInput(
            f"--strategy tpu: no TPU can be reached ({reason}); run on a TPU VM set up by scripts/tpu.sh"
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes files: always, unless it is a worker other than the first."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return True
    return resolver.task_type in (None, "chief") or (resolver.task_type == "worker" and resolver.task_id == 0)
