"""`Slots`: memory for a bounded number of experts, each in a place of its own that others take over later.

The matrices of a place are made once and look at whatever expert lies there now: a backend's `hold` keeps no
copy of what it is given. Read `residency.py` for who lies where.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from araio.formats.layout import EXPERT_MATRICES
from araio.formats.store_layout import ExpertRecord
from araio.kernels.ops import FeedForward, Ops
from araio.memory import Arena

__all__ = ["Slots"]


class Slots:
    """Places 0 to `count - 1` for one record each; they take memory when they are first filled."""

    def __init__(self, record: ExpertRecord, count: int, ops: Ops) -> None:
        self.count = count
        self.record = record
        self._ops = ops
        self._arena = Arena(count * record.bytes)
        self._held: list[FeedForward | None] = [None] * count

    def memory(self, slot: int) -> npt.NDArray[np.uint8]:
        """The bytes of a place, to be filled with a record."""
        begin = slot * self.record.bytes
        return self._arena.content[begin : begin + self.record.bytes]

    def expert(self, slot: int) -> FeedForward:
        """The matrices of the record that fills a place."""
        held = self._held[slot]
        if held is None:
            # Not before it is filled: what a backend tests of a weight must be there.
            memory = self.memory(slot)
            matrices = (self.record.weight(memory, matrix) for matrix in EXPERT_MATRICES)
            held = self._held[slot] = FeedForward(*map(self._ops.hold, matrices))
        return held

    def give_back(self, slot: int) -> None:
        """Let the system have the memory of a place whose expert nobody needs."""
        begin = slot * self.record.bytes
        self._arena.give_back(begin, begin + self.record.bytes)
