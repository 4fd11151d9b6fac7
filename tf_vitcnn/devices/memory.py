"""How much memory there is where a run computes, and how much of it a run may take.

A run on CPUs shares the machine's memory with whatever else runs there, and with the limit of its container. An
accelerator has memory of its own, and each replica has an accelerator of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import tensorflow as tf

from tf_vitcnn.devices.strategy import devices_of, kind_of
from tf_vitcnn.errors import BadInput

GB = 1e9
OF_MACHINE = 0.6  # of what is free: others live there too
OF_ACCELERATOR = 0.8  # the rest is for its allocator's gaps and its libraries' workspace
TPU = 8 * GB  # of a core whose kind is not known: the least that any has


def available(strategy: tf.distribute.Strategy) -> float:
    """Bytes that are free in the memory where one replica computes: an accelerator's own, or this machine's."""
    kind = kind_of(strategy)
    if kind == "CPU":
        return machine()
    return min(_accelerator(name, kind) for name in devices_of(strategy))


def limit(gigabytes: float | None, strategy: tf.distribute.Strategy) -> float:
    """The budget in bytes of the memory where a replica computes: as asked, else a share of what is free."""
    if gigabytes is None:
        share = OF_MACHINE if kind_of(strategy) == "CPU" else OF_ACCELERATOR
        return share * available(strategy)
    if not gigabytes > 0:
        raise BadInput(f"--memory {gigabytes:g}: expected a number of gigabytes above 0")
    return gigabytes * GB


def machine() -> float:
    """Bytes that this process may still take of the machine: what is free, within its container's limit."""
    return float(min([psutil.virtual_memory().available, *_containers(Path("/"))]))


def host() -> float:
    """The budget in bytes of what waits on the machine for an accelerator's results."""
    return OF_MACHINE * machine()


def peak() -> float:
    """The largest resident size of this process so far, in bytes."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else most * 1024)


def _accelerator(name: str, kind: str) -> float:
    """Bytes of an accelerator that are not taken yet."""
    # nothing public tells the memory of a device; its allocator's limit is what TensorFlow itself goes by
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.client import pywrap_tf_session as lists
    from tensorflow.python.eager import context

    devices = pywrap_tfe.TFE_ContextListDevices(context.context()._handle)
    places = range(lists.TF_DeviceListCount(devices))
    limits = {lists.TF_DeviceListName(devices, i): lists.TF_DeviceListMemoryBytes(devices, i) for i in places}
    most = limits.get(name, 0) or (TPU if kind == "TPU" else 0)
    spec = tf.DeviceSpec.from_string(name)
    try:
        taken = tf.config.experimental.get_memory_info(f"{spec.device_type}:{spec.device_index}")["current"]
    except (ValueError, tf.errors.OpError):  # a device that does not tell
        taken = 0
    return float(most - taken)


def _containers(root: Path) -> Iterator[float]:
    """What each control group around this process leaves it; those without a limit say nothing. `root`: for tests."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2: one tree for all controllers
            tree, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            tree = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # a limit of a group above binds as well; inside a container the tree begins at the container's own group
        group = tree / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _room(folder, *names)
            if folder == tree:
                break


def _room(folder: Path, limit: str, usage: str, cache: str) -> Iterator[float]:
    try:
        most, taken = float((folder / limit).read_text()), float((folder / usage).read_text())
        statistics = dict(line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such file; or `max`: no limit
        return
    # files that were read and may be dropped are counted as taken
    yield max(0.0, most - taken + float(statistics.get(cache, 0)))
