"""How TensorFlow starts: in silence, and with an allocator that keeps its memory."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from tf_vitcnn.errors import BadInput


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


# how libjpeg's words on a damaged image begin; it prints them itself, for each image, whoever asked it to decode
LIBJPEG = re.compile(
    rb"Bogus |Corrupt JPEG data|Empty JPEG image|Fractional sampling|Huffman table|Improper call to JPEG"
    rb"|Inconsistent progression|Input file read error|Invalid (component|crop|JPEG|progressive|scan|SOS)|JPEG "
    rb"|Maximum supported image|Not a JPEG|Premature end of|Quantization table|Requested feature|Sorry, there are"
    rb"|Unexpected marker|Unknown Adobe|Unsupported (color|JPEG|marker)|Warning: unknown JFIF"
)


@contextlib.contextmanager
def without_libjpeg() -> Iterator[None]:
    """Standard error without what libjpeg writes there: a refused image is the one line that we say of it.

    What native code writes goes through a pipe and on, line by line; Python's stderr goes past it.
    """
    sys.stderr.flush()
    kept, (out, into), said = os.dup(2), os.pipe(), sys.stderr
    reader = threading.Thread(target=_pass_on, args=(out, kept), daemon=True)
    reader.start()
    os.dup2(into, 2)
    os.close(into)
    try:
        ours = said.fileno() == 2
    except (OSError, ValueError):  # a test's
        ours = False
    if ours:
        sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, encoding=said.encoding, errors=said.errors)
    try:
        yield
    finally:
        if ours:
            sys.stderr.close()
            sys.stderr = said
        os.dup2(kept, 2)
        reader.join(1)  # a child process that is left may hold the pipe open
        os.close(kept)


def _pass_on(source: int, to: int) -> None:
    with os.fdopen(source, "rb") as lines, contextlib.suppress(OSError):
        for line in lines:
            if not LIBJPEG.match(line):
                os.write(to, line)


def keep_memory() -> None:
    """Lets TensorFlow keep and reuse what it frees, as it does on every device but CPUs.

    By default each tensor above 32 MB is mapped anew by each operation, and its pages are cleared one fault at a time:
    half the time of a training step. Read when the first tensor is made; a user's own setting stays.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    # TensorFlow's default limit of 64 GB is too small for a TPU's host; the machine's own memory is the limit here
    machine = psutil.virtual_memory().total >> 20
    os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2 * machine))


def require_tensorflow() -> None:
    """Refuses another backend of Keras, before Keras is imported where that is still possible."""
    keras = sys.modules.get("keras")
    backend = keras.config.backend() if keras else os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise BadInput(f"KERAS_BACKEND is {backend}: checkpoints are read with the TensorFlow backend only; unset it")


def start_tensorflow() -> None:
    """Imports TensorFlow and looks for its devices, without the messages that speak to its developers.

    The same where a user imported TensorFlow or Keras before.
    """
    keep_memory()
    with stderr_closed():
        import tensorflow as tf

        # a Gram function is traced once per shape of a tap: TensorFlow takes that for a mistake and says so
        tf.get_logger().setLevel("ERROR")
        # devices are looked up, not opened: a strategy or a test may still configure them
        tf.config.list_physical_devices()
