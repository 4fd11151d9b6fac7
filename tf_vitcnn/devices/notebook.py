"""Whether this process is a notebook's kernel."""

import sys
from typing import Any


def running() -> bool:
    """Whether a notebook shows what this process returns; asks only an IPython that is loaded already."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")
