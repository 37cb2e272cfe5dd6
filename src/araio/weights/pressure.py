"""`Pressure`: when a running model should give memory back, because others on the machine need it.

A budget is fixed when a model is loaded, and what else runs is not. Where the machine's last reserve shrinks,
a higher share of hits is worth nothing: the system would page or kill. So experts leave memory before that,
and return when there is room again. Read `residency.py` for what leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from araio.weights.machine_memory import SPARED, MachineMemory, machine_memory

__all__ = ["Pressure"]

# How often it is looked at; a look takes a third of a millisecond.
EVERY_S = 0.5


class Pressure:
    """Asked at every step.

    The reserve is half of what a budget spares by itself: less than that is nobody's plan. What was given
    back is taken again only where the whole of what is spared stays free.
    """

    def __init__(
        self,
        memory: Callable[[], MachineMemory] = machine_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory, self._clock = memory, clock
        self._looked_s = clock()

    def excess(self) -> int:
        """Bytes to give back; below zero, that may be taken again; 0 if nothing is to be done now."""
        now_s = self._clock()
        if now_s - self._looked_s < EVERY_S:
            return 0
        self._looked_s = now_s
        memory = self._memory()
        spared = memory.total // SPARED
        if memory.available < spared // 2:
            return spared // 2 - memory.available
        return min(0, spared - memory.available)
