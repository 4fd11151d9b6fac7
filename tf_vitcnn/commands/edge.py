"""The edge that commands share: a refused request is one line on stderr and exit status 2, never a traceback."""

import os
import sys
from collections.abc import Callable

from tf_vitcnn.devices.start import without_libjpeg
from tf_vitcnn.errors import BadInput

INTERRUPTED, BROKEN_PIPE = 130, 141  # as a shell tells of the signals


def guard(function: Callable[[], int | None]) -> None:
    """Runs `function` and exits with its status; a refused request is one line and exit status 2."""
    try:
        with without_libjpeg():
            status = function()
        sys.stdout.flush()
    except BadInput as refused:
        print(" ".join(str(refused).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # whoever read has seen enough; what is left unwritten goes nowhere, and Python must not say so at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    sys.exit(status or 0)


def say(line: str) -> None:
    """Progress and advice, on stderr: stdout has results only."""
    print(line, file=sys.stderr, flush=True)
