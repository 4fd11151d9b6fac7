"""A strategy as the walk uses it: a value to each replica, a step on each, sums over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_vitcnn.devices.strategy import is_chief


class Replicas:
    """A strategy as the walk uses it: hand a value to each local replica, call a step, add what comes back."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        extended = strategy.extended
        self.local = getattr(extended, "_num_replicas_in_sync", self.count)
        self.first = 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.local = len(extended.worker_devices)
            self.first = strategy.cluster_resolver.task_id * self.local
        self.plain = self.count == 1
        self.alone = self.count == self.local  # no other worker

    def spread(self, values: Sequence[Any]) -> Any:
        """One value per local replica, as the argument of a call."""
        if self.plain:
            return values[0]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group - self.first]
        )

    def values(self, weights: Sequence[Any]) -> Any:
        """The values of Keras variables on each local replica, as the argument of a call; not copied."""
        own = [self.strategy.experimental_local_results(weight.value) for weight in weights]
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
                return value if self.plain else self.strategy.gather(value, axis=0)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

        return tf.function(
            lambda *args: {k: total(k, v) for k, v in self.strategy.run(run, args=args).items()},
            reduce_retracing=False,
            autograph=False,
        )

    def broadcast(self, number: int) -> int:
        """The chief's number, on every worker."""
        if self.alone:
            return number
        mine = tf.constant(number if is_chief(self.strategy) else 0, tf.int64)

        @tf.function
        def add() -> Any:
            # one replica per worker speaks, the others say zero
            def say() -> Any:
                context = tf.distribute.get_replica_context()
                own = tf.equal(context.replica_id_in_sync_group, 0)
                return context.all_reduce("SUM", tf.where(own, mine, tf.zeros_like(mine)))

            return self.strategy.run(say)

        return int(self.strategy.experimental_local_results(add())[0].numpy())
