"""How TensorFlow starts: in silence, and with an allocator that keeps its memory."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil


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


def keep_memory() -> None:
    """Lets TensorFlow keep and reuse what it frees, as it does on every device but CPUs.

    By default each tensor above 32 MB is mapped anew by each operation, and its pages are cleared one fault at a time:
    half the time of a training step. Read when the first tensor is made; a user's own setting stays.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    # TensorFlow's default limit of 64 GB is too small for a TPU's host; the machine's own memory is the limit here
    machine = psutil.virtual_memory().total >> 20
    os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2 * machine))


def start_tensorflow() -> None:
    """Imports TensorFlow and looks for its devices, once, without the messages that speak to its developers."""
    keep_memory()
    if "tensorflow" in sys.modules:
        return
    with stderr_closed():
        import tensorflow as tf

        # a Gram function is traced once per shape of a tap: TensorFlow takes that for a mistake and says so
        tf.get_logger().setLevel("ERROR")
        # devices are looked up, not opened: a strategy or a test may still configure them
        tf.config.list_physical_devices()
