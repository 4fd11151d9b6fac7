"""The learning rate over a training run: up along a line, then down along half a cosine."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tf_vitcnn")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """rate (s+1)/w for steps s < w, then rate (1 + cos(pi (s-w)/(n-w))) / 2 for n steps in all."""

    def __init__(self, rate: float, steps: int, warmup: int) -> None:
        super().__init__()
        self.rate, self.steps, self.warmup = float(rate), int(steps), int(warmup)

    def __call__(self, step: Any) -> Any:
        """The rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        rise = (step + 1.0) / max(1, self.warmup)
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        fall = 0.5 * (1.0 + ops.cos(3.141592653589793 * ops.clip(share, 0.0, 1.0)))
        return self.rate * ops.where(step < self.warmup, rise, fall)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {"rate": self.rate, "steps": self.steps, "warmup": self.warmup}
