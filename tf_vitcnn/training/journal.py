"""What happens between the steps of `fit`: sums, the log, the progress bar, saved states, and a stop at a bad loss."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
from tqdm import tqdm

from tf_vitcnn.engine.interrupt import Interrupt
from tf_vitcnn.errors import BadInput
from tf_vitcnn.training.examples import Order
from tf_vitcnn.training.resume import Progress


class Journal(keras.callbacks.Callback):
    """Counts steps and images, and writes a row after each epoch.

    Args:
        order: the steps of the run.
        progress: where the run starts; kept up to date.
        validate: accuracy on the validation images; None without them.
        rate: learning rate of a step.
        keep: saves the state; called with the progress every `pause` seconds.
        record: writes the log's rows.
        pause: seconds between saved states.
        interrupt: whether somebody wants the run to stop.
    """

    def __init__(
        self,
        order: Order,
        progress: Progress,
        validate: Callable[[], float] | None,
        rate: Callable[[int], float],
        keep: Callable[[Progress], bool],
        record: Callable[[list[dict[str, Any]]], None],
        pause: float,
        interrupt: Interrupt | None = None,
    ) -> None:
        super().__init__()
        self.interrupt = interrupt or Interrupt()
        self.order, self.progress, self.validate, self.rate = order, progress, validate, rate
        self.keep, self.record, self.pause = keep, record, pause
        self.saved_step, self.last_save = progress.step, time.monotonic()
        self.clock = time.monotonic()  # of everything: added to progress.seconds
        self.busy, self.seen = 0.0, 0  # seconds and images of this process' part of the epoch
        self.bar: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the progress bar where the run is."""
        if self.bar is None:
            # a log file gets a line per epoch instead of a bar
            self.bar = tqdm(total=self.order.steps, initial=self.progress.step, unit="step", disable=None, leave=False)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the stop-watch."""
        self.busy, self.seen, self.started = 0.0, 0, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the step's sums; stops at a loss that is not finite; saves when it is time."""
        done, b = self.progress, self.order.batch
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        done.step += 1
        if not math.isfinite(loss):
            self.close()
            raise BadInput(self._diverged())
        done.loss += b * loss
        done.correct += b * accuracy
        done.images += b
        self.seen += b
        self.bar.update()
        last_of_epoch = done.step % self.order.epoch_steps == 0
        # the last step's sums belong to a row that is not written yet: the epoch's end saves both
        if not last_of_epoch and self._due():
            self._save()
            self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validates, writes the epoch's row, and starts new sums."""
        done, elapsed = self.progress, time.monotonic() - self.started
        row = {
            "epoch": epoch + 1,
            "step": done.step,
            "loss": done.loss / done.images,
            "accuracy": done.correct / done.images,
            "val_accuracy": self.validate() if self.validate else None,
            "learning_rate": self.rate(done.step - 1),
            "images_per_second": self.seen / elapsed if self.seen else None,
        }
        done.rows.append(row)
        done.loss, done.correct, done.images = 0.0, 0.0, 0
        self.record(done.rows)
        if logs is not None:  # for the callbacks that come after
            logs.update({name: value for name, value in row.items() if value is not None})
        self._tell(row)
        if self._due():
            self._save()
            self._stop_if_asked()

    def close(self) -> None:
        """Ends the progress bar."""
        if self.bar is not None:
            self.bar.close()

    def _stop_if_asked(self) -> None:
        if self.interrupt.asked:
            self.close()
            step = f"interrupted; the state of step {self.saved_step} of {self.order.steps} is kept"
            raise KeyboardInterrupt(f"{step}; the same command goes on from there")

    def _due(self) -> bool:
        return self.interrupt.asked or time.monotonic() - self.last_save >= self.pause

    def stop_clock(self) -> None:
        """Adds the seconds since the last time to those of the run."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def _save(self) -> None:
        self.stop_clock()
        if self.keep(self.progress):
            self.saved_step = self.progress.step
        self.last_save = time.monotonic()

    def _diverged(self) -> str:
        kept = f"the state of step {self.saved_step} is kept" if self.saved_step else "no state was saved before"
        return (
            f"the loss is not finite at step {self.progress.step} of {self.order.steps}; {kept}; "
            f"try a lower --rate or a lower --clip under another --name"
        )

    def _tell(self, row: dict[str, Any]) -> None:
        shown = {name: row[name] for name in ("loss", "accuracy", "val_accuracy") if row[name] is not None}
        if not self.bar.disable:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            return
        speed = row["images_per_second"] or float("nan")
        left = (self.order.steps - self.progress.step) * self.order.batch / speed
        words = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        print(
            f"epoch {row['epoch']} of {self.order.epochs}: {words}; {speed:.0f} images/s, {left / 60:.1f} min left",
            file=sys.stderr,
        )
