"""What a run may use of its machine: memory, the parts in which cores add up, and their units for bfloat16."""

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
    units: int  # 1: they multiply bfloat16 faster than float32, and round as they do that

    @classmethod
    def found(cls, gigabytes: float | None, strategy: Any, bfloat16: bool = False) -> Room:
        """The room of this machine as it is now; `gigabytes` as asked for, where a replica computes.

        Units are only looked for where bfloat16 is multiplied on a CPU.
        """
        from tf_vitcnn.devices import cores, memory  # a checkpoint is read without TensorFlow
        from tf_vitcnn.devices.strategy import kind_of

        device, cpu = int(memory.limit(gigabytes, strategy)), kind_of(strategy) == "CPU"
        units = int(bfloat16 and cpu and cores.bfloat16_units())
        return cls(device, device if cpu else int(memory.host()), cores.count(), units)
