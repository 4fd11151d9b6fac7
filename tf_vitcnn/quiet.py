"""TensorFlow without its start-up messages: they speak to its developers, not to our user."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def stderr_closed() -> Iterator[None]:
    """What native code writes to stderr goes nowhere; Python's own errors still raise."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def start_tensorflow() -> None:
    """Imports TensorFlow and looks for its devices, once, in silence."""
    if "tensorflow" in sys.modules:
        return
    with stderr_closed():
        import tensorflow as tf

        # a Gram function is traced once per shape of a tap: TensorFlow takes that for a mistake and says so
        tf.get_logger().setLevel("ERROR")
        # devices are looked up, not opened: a strategy or a test may still configure them
        tf.config.list_physical_devices()
