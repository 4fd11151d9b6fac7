"""Ctrl-C between steps: what is being added up is ended first, so that what is saved is whole."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Interrupt:
    """Whether somebody wants the run to stop."""

    asked = False

    def _ask(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt("interrupted at once; what was saved before is kept")
        self.asked = True
        print("stopping after this step, which is then saved; Ctrl-C again stops at once", file=sys.stderr, flush=True)


@contextlib.contextmanager
def between_steps(saves: bool = True) -> Iterator[Interrupt]:
    """Inside, the first Ctrl-C only asks, and whoever steps looks; without a place to save it stops at once."""
    interrupt = Interrupt()
    if not saves or threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt._ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
