"""What a layer holds while it waits for its experts: `AtHand`, if all are there, else `Awaited`.

Both are tickets as `nn/experts.py` asks for them. Read `residency.py` for who gives them out and fills them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from araio.nn.experts import ExpertWeights

__all__ = ["AtHand", "Awaited"]


class Source(Protocol):
    """Who reads what is missing."""

    def arrivals(self, awaited: Awaited) -> Iterator[ExpertWeights]:
        """What a layer needs, as it arrives."""

    def give_up(self) -> None:
        """Nobody wants it any more."""


class AtHand:
    """A ticket for experts that are all in memory."""

    def __init__(self, experts: ExpertWeights) -> None:
        self._experts = experts

    def at_hand(self) -> ExpertWeights:
        """See `nn.experts.Ticket`."""
        return self._experts

    def arrivals(self) -> Iterator[ExpertWeights]:
        """See `nn.experts.Ticket`."""
        yield self._experts

    def give_up(self) -> None:
        """See `nn.experts.Ticket`."""


class Awaited:
    """A ticket for experts of which some are on their way or still to be asked for.

    keys     of all of them
    to_read  those whose reads wait for room
    missing  those that had to be read
    """

    def __init__(self, source: Source, keys: Sequence[int], missing: Sequence[int]) -> None:
        self._source = source
        self.keys, self.to_read = keys, deque(missing)
        self.missing = frozenset(missing)
        self.began_s = time.perf_counter()

    def at_hand(self) -> None:
        """See `nn.experts.Ticket`."""

    def arrivals(self) -> Iterator[ExpertWeights]:
        """See `nn.experts.Ticket`."""
        return self._source.arrivals(self)

    def give_up(self) -> None:
        """See `nn.experts.Ticket`."""
        self._source.give_up()
