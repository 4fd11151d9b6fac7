"""What a run may use of its machine: memory, and the parts in which cores add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Room:
    """Decided once and kept with a run's totals: passes, groups of layers and the order of additions follow from it.

    Taken anew after a kill, it would change what the next step is, and how sums round.
    """

    device: int  # bytes of the memory where a replica computes: an accelerator's own, or this machine's
    host: int  # bytes of this machine's memory
    lanes: int  # parts in which the cores add a Gram matrix up

    @classmethod
    def found(cls, gigabytes: float | None, strategy: Any) -> Room:
        """The room of this machine as it is now; `gigabytes` as asked for, where a replica computes."""
        from tf_vitcnn.devices import cores, memory  # a checkpoint is read without TensorFlow
        from tf_vitcnn.devices.strategy import kind_of

        device = int(memory.limit(gigabytes, strategy))
        return cls(device, device if kind_of(strategy) == "CPU" else int(memory.host()), cores.count())
