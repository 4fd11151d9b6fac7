"""A strategy as the walk uses it: a value to each replica, a step on each, sums over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_vitcnn.devices.strategy import devices_of, kind_of, rank


class Replicas:
    """A strategy as the walk uses it: hand a value to each local replica, call a step, add what comes back."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        extended = strategy.extended
        self.local = getattr(extended, "_num_replicas_in_sync", self.count)
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.local = len(extended.worker_devices)
        self.first = rank(strategy) * self.local
        self.kind = kind_of(strategy)
        self.devices = devices_of(strategy)  # of the local replicas
        self.sharing = self.local if self.kind == "CPU" else 1  # replicas in one memory
        self.plain = self.count == 1
        self.alone = self.count == self.local  # no other worker

    def spread(self, values: Sequence[Any]) -> Any:
        """One value per local replica, as the argument of a call."""
        if self.plain:
            return values[0]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group - self.first]
        )

    def placed(self, values: Sequence[Any]) -> Any:
        """One value (a nest of tensors) per local replica, on its way to the replica's own device already."""
        if self.kind == "CPU":
            return self.spread(values)
        return self.spread([_on(device, value) for device, value in zip(self.devices, values, strict=True)])

    def values(self, weights: Sequence[Any]) -> Any:
        """The values of Keras variables on each local replica, as the argument of a call; not copied.

        A variable that was made before the strategy's scope has one value for all.
        """
        own = [self.strategy.experimental_local_results(weight.value) for weight in weights]
        own = [each if len(each) == self.local else each * self.local for each in own]
        return self.spread([[tf.convert_to_tensor(each[i]) for each in own] for i in range(self.local)])

    def function(self, step: Callable[..., Any], jit: bool = False) -> Callable[..., Any]:
        """`step` on every replica, traced once per signature; results stay on their replicas."""
        run = tf.function(step, jit_compile=True, autograph=False) if jit else step
        # autograph would translate the source of every layer: most of the time until the first step
        return tf.function(lambda *args: self.strategy.run(run, args=args), reduce_retracing=False, autograph=False)

    def summed(self, step: Callable[..., dict[str, Any]], jit: bool = False) -> Callable[..., dict[str, Any]]:
        """`step` on every replica, its dict of sums added over replicas and workers; `rows/` keys are gathered."""
        run = tf.function(step, jit_compile=True, autograph=False) if jit else step

        def total(key: str, value: Any) -> Any:
            if key.startswith("rows/"):
                # a collective's sizes are those of its first use in a process, by whichever strategy: rows differ
                return value if self.alone else self.strategy.gather(value, axis=0)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

        totals = tf.function(
            lambda *args: {k: total(k, v) for k, v in self.strategy.run(run, args=args).items()},
            reduce_retracing=False,
            autograph=False,
        )
        return lambda *args: {k: self._whole(k, v) for k, v in totals(*args).items()}

    def _whole(self, key: str, value: Any) -> Any:
        if self.plain or not self.alone or not key.startswith("rows/"):
            return value
        with tf.device("CPU:0"):  # they come from several devices, and go to the host
            return tf.concat(self.strategy.experimental_local_results(value), axis=0)

    def broadcast(self, number: int) -> int:
        """The chief's number, on every worker."""
        return self.each(number)[0]

    def each(self, number: int) -> list[int]:
        """The numbers of all workers, on every worker, the chief's first."""
        if self.alone:
            return [number]
        mine = tf.constant(number, tf.int64)

        @tf.function
        def add() -> Any:
            # the first replica of each worker speaks, the others say zero
            def say() -> Any:
                context = tf.distribute.get_replica_context()
                place = tf.one_hot(context.replica_id_in_sync_group, self.count, dtype=tf.int64)
                return context.all_reduce("SUM", place * mine)

            return self.strategy.run(say)

        found = self.strategy.experimental_local_results(add())[0].numpy()
        return [int(value) for value in found[:: self.local]]


def _on(device: str, value: Any) -> Any:
    with tf.device(device):
        return tf.nest.map_structure(tf.identity, value)
