"""`ExpertSource`: where a layer's experts come from, and the source that holds all of them in memory.

A source under a byte budget or on other machines implements the same protocol; nothing above it asks which
one it has. Read `moe.py` for the one caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from araio.kernels.ops import FeedForward, Int32Array

__all__ = ["ExpertSource", "ExpertWeights", "InMemoryExperts", "Ticket"]

ExpertWeights: TypeAlias = Mapping[int, FeedForward]
"""Weights by expert id."""


class Ticket(Protocol):
    """Experts on their way."""

    def wait(self) -> ExpertWeights:
        """Block until every requested expert is there."""


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

    def wait(self) -> ExpertWeights:
        return self.weights


class InMemoryExperts:
    """Every expert of every layer, ready; `layers` maps a layer's index to its experts by id."""

    def __init__(self, layers: Mapping[int, ExpertWeights]) -> None:
        self._tickets = {layer: _Arrived(weights) for layer, weights in layers.items()}

    def request(self, layer: int, expert_ids: Int32Array) -> Ticket:
        """A ticket for all experts of the layer, whichever are asked for."""
        return self._tickets[layer]
