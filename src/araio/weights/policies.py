"""Which expert leaves memory first when room is needed for another: one protocol, the default and a yardstick.

Experts of all layers compete for one budget, so a policy knows no layers: its keys are ints in [0, keys),
`place of the layer * experts of a layer + expert`. A policy is told what is used and gives each key a priority;
it neither knows what is in memory nor moves anything. `residency.py` asks it; `simulate.py` plays recorded
routes to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["LRFU", "LRU", "Policy"]

IntArray = NDArray[np.integer]
Float64Array = NDArray[np.float64]


class Policy(Protocol):
    """Ranks experts by how much is lost when they leave."""

    def use(self, keys: IntArray, weight: float | Float64Array = 1.0) -> None:
        """Tokens have chosen these experts, distinct keys (N,) of one layer.

        weight  above 0: 1 for a decoded token; for a prompt (N,), the share of its tokens that chose each, for
                a prompt touches nearly all experts and must not displace what decoding uses
        """

    def step(self) -> None:
        """A step of the engine is over: everything is one token older."""

    def priorities(self, keys: IntArray) -> Float64Array:
        """The worth of each of these keys (N,); the lowest leaves first."""


class LRU:
    """The least recently used leaves first, whatever its weight: what a page cache does, and the yardstick."""

    def __init__(self, keys: int) -> None:
        self._uses = 0
        self._last = np.full(keys, -np.inf)

    def use(self, keys: IntArray, weight: float | Float64Array = 1.0) -> None:
        """See `Policy.use`; counts calls, so that of two layers of one step the later is more recent."""
        self._uses += 1
        self._last[keys] = self._uses

    def step(self) -> None:
        """Nothing: uses are the clock."""

    def priorities(self, keys: IntArray) -> Float64Array:
        """When each was last used."""
        return self._last[keys]


class LRFU:
    """Every use counts, and half as much when it is `half_life` tokens old (Lee et al. 2001, "LRFU").

    The worth of a key is sum(weight * 2 ** (-age / half_life)). What is kept is its logarithm at time 0, to
    which a use at time t adds weight * 2 ** (t / half_life): time passes without a number being touched, and
    nothing overflows.
    """

    def __init__(self, keys: int, half_life: float = 16.0) -> None:
        self.half_life = half_life
        self._time = 0.0  # in half-lives
        self._worth = np.full(keys, -np.inf)  # log2

    def use(self, keys: IntArray, weight: float | Float64Array = 1.0) -> None:
        """See `Policy.use`."""
        self._worth[keys] = np.logaddexp2(self._worth[keys], self._time + np.log2(weight))

    def step(self) -> None:
        """See `Policy.step`."""
        self._time += 1 / self.half_life

    def priorities(self, keys: IntArray) -> Float64Array:
        """The logarithm of each key's worth, up to a constant that all share."""
        return self._worth[keys]

    def state(self) -> dict[str, Float64Array]:
        """What a warm start needs: the worth of every key now, log2, -inf for those never used."""
        return {"worth": self._worth - self._time}

    def restore(self, state: Mapping[str, Float64Array], age: float = 0.0) -> None:
        """Go on from a state that is `age` tokens old; raises ValueError unless it has as many keys."""
        worth = state["worth"]
        if worth.shape != self._worth.shape:
            raise ValueError(f"the state has {worth.shape} keys, the policy {self._worth.shape}")
        self._worth = worth + self._time - age / self.half_life
