"""`ExpertSource`: where a layer's experts come from, and the source that holds all of them in memory.

A source under a byte budget or on other machines implements the same protocol; nothing above it asks which
one it has. Read `moe.py` for the one caller, `weights/residency.py` for the source that reads from disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from araio.kernels.ops import FeedForward, Int32Array

__all__ = ["ExpertSource", "ExpertWeights", "InMemoryExperts", "Ticket"]

ExpertWeights: TypeAlias = Mapping[int, FeedForward]
"""Weights by expert id."""


class Ticket(Protocol):
    """Experts of one layer that were asked for. It is good until the next request to the same source."""

    def at_hand(self) -> ExpertWeights | None:
        """All of them at once, and maybe others, if none has to be waited for; else None."""

    def arrivals(self) -> Iterator[ExpertWeights]:
        """All of them, each once, in groups as they arrive; blocks until there is a next group.

        The memory of a group is its own until the next group is asked for: experts beyond what memory holds
        take turns in it.

        Raises:
            CheckpointError: what arrived is damaged, or cannot be read.
        """

    def give_up(self) -> None:
        """Nobody wants what has not arrived yet: `arrivals` is not asked for another group."""


class ExpertSource(Protocol):
    """Gives the experts of a layer, perhaps later."""

    def request(self, layer: int, expert_ids: Int32Array) -> Ticket:
        """Ask for experts and return at once.

        layer       index of a routed layer, main model or MTP
        expert_ids  (T, K), with repetitions
        """


@dataclass(frozen=True)
class _Arrived:
    weights: ExpertWeights

    def at_hand(self) -> ExpertWeights:
        return self.weights

    def arrivals(self) -> Iterator[ExpertWeights]:
        yield self.weights

    def give_up(self) -> None:
        pass


class InMemoryExperts:
    """Every expert of every layer, ready; `layers` maps a layer's index to its experts by id."""

    def __init__(self, layers: Mapping[int, ExpertWeights]) -> None:
        self._tickets = {layer: _Arrived(weights) for layer, weights in layers.items()}

    def request(self, layer: int, expert_ids: Int32Array) -> Ticket:
        """A ticket for all experts of the layer, whichever are asked for."""
        return self._tickets[layer]
