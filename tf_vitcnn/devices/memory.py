"""How much memory there is, and how much of it a run may take."""

from __future__ import annotations

import resource
from pathlib import Path

from tf_vitcnn.errors import BadInput

GB = 1e9


def available() -> float:
    """Bytes that this machine has free."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 8 * GB


def limit(gigabytes: float | None) -> float:
    """The budget in bytes: as asked, else 60 % of what is free."""
    if gigabytes is None:
        return 0.6 * available()
    if not gigabytes > 0:
        raise BadInput(f"--memory {gigabytes:g}: expected a number of gigabytes above 0")
    return gigabytes * GB


def peak() -> float:
    """The largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
