"""How far a run is: a bar on a terminal or in a notebook, one line a minute elsewhere."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

from tf_vitcnn.devices import notebook


class ProgressBar:
    """Images done, images/s, time left and the current stage, on stderr."""

    def __init__(self, total: int, done: int = 0, quiet: bool = False) -> None:
        self.total, self.done, self.stage = total, float(done), ""
        self.start, self.first, self.told = time.monotonic(), float(done), time.monotonic()
        self.quiet = quiet
        watched = (sys.stderr.isatty() or notebook.running()) and not quiet
        self.bar = _bar(total=total, initial=done, unit="image", unit_scale=True, leave=False) if watched else None

    def add(self, images: float, stage: str = "") -> None:
        """Counts images as done; says so when it is time."""
        self.done, self.stage = self.done + images, stage or self.stage
        if self.bar is not None:
            self.bar.set_description(self.stage)
            self.bar.update(images)
        elif not self.quiet and time.monotonic() - self.told >= 60:
            self.told = time.monotonic()
            rate = (self.done - self.first) / (self.told - self.start)
            left = (self.total - self.done) / max(rate, 1e-9)
            print(
                f"{self.stage}: {self.done:.0f} of {self.total} images, {rate:.1f} images/s, {left / 60:.0f} min left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self.bar is not None:
            self.bar.close()


def _bar(**settings: Any) -> Any:
    """The bar of a terminal, or a notebook's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a notebook without widgets: tqdm then draws its bar as text
        from tqdm.auto import tqdm

        return tqdm(**settings)
