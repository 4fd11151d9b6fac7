"""Where the computation runs: the tf.distribute strategy, its devices, and the place of this process among others."""

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
WORKERS = ("chief", "worker")  # jobs of TF_CONFIG, in the order in which TensorFlow counts them
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
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    if name == "mirrored":
        devices = [d.name for d in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
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


def devices_of(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    """The devices of this process that the strategy's replicas compute on."""
    try:
        return tuple(strategy.extended.worker_devices)
    except RuntimeError:  # the default strategy: TensorFlow takes a GPU if there is one
        logical = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return (logical[0].name,)


def kind_of(strategy: tf.distribute.Strategy) -> str:
    """CPU, GPU or TPU: what the strategy's replicas compute on, whatever else this machine has."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "TPU"
    return str(tf.DeviceSpec.from_string(devices_of(strategy)[0]).device_type)


def _multiworker() -> tf.distribute.Strategy:
    own, others = own_and_others(os.environ.get("TF_CONFIG", ""))
    meet(own, others)
    return tf.distribute.MultiWorkerMirroredStrategy()


def own_and_others(config: str) -> tuple[str, list[str]]:
    """This process' address in a TF_CONFIG, and those of the other workers; a chief is a worker that comes first."""
    try:
        parsed = json.loads(config)
        cluster, kind, index = parsed["cluster"], parsed["task"].get("type", "worker"), int(parsed["task"]["index"])
        workers = [str(address) for job in WORKERS for address in cluster.get(job, ())]
        if kind not in WORKERS or index < 0:
            raise ValueError(kind)
        own = str(cluster[kind][index])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise BadInput(
            "--strategy multiworker needs TF_CONFIG in the environment: "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; '
            'a "chief" may stand beside the workers'
        ) from None
    return own, [address for address in workers if address != own]


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


def rank(strategy: tf.distribute.Strategy) -> int:
    """This process' place among the workers, from 0; a chief comes before the workers, as TensorFlow counts them."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 0
    if resolver.task_type in (None, "chief"):
        return 0
    return int(resolver.task_id) + len(resolver.cluster_spec().as_dict().get("chief", ()))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes files: always, unless it is a worker other than the first."""
    return rank(strategy) == 0
