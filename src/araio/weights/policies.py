"""Which expert leaves memory first when room is needed for another: one protocol, the default, a yardstick.

Experts of all layers compete for one budget, so a policy knows no layers: its keys are ints in [0, keys),
`place of the layer * experts of a layer + expert`. A policy is told what is used and gives each key a
priority; it neither knows what is in memory nor moves anything. `residency.py` asks it; `simulate.py` plays
recorded routes to it.

The default is `TwoRates`. With little memory what was just used is worth keeping, with much what is used
often, and no single half-life serves both: of LRFU's (Lee et al. 2001) each is worse than LRU or than plain
counting at some size. Two of them added are at least as good as the better of both at every size, nearly: the
table is in docs/lab-notes.md, with what was tried and left out, and why nothing that only looks back comes
near the optimum, which looks ahead.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["LRU", "Policy", "TwoRates"]

IntArray = NDArray[np.integer]
Float64Array = NDArray[np.float64]

# Chosen on two synthetic traces and one of `pocket`; a half or double of either changes little.
HALF_LIFE = 128.0  # tokens
RECENT = 24.0


class Policy(Protocol):
    """Ranks experts by how much is lost when they leave."""

    def use(self, keys: IntArray, weight: float | Float64Array = 1.0) -> None:
        """Tokens have chosen these experts, distinct keys (N,) of one layer.

        weight  1 for a decoded token; for a prompt (N,), the share of its tokens that chose each, for a prompt
                touches nearly all experts and must not displace what decoding uses
        """

    def step(self) -> None:
        """A step of the engine is over: everything is one token older."""

    def priorities(self, keys: IntArray) -> Float64Array:
        """The worth of each of these keys (N,); the lowest leaves first."""

    def lasting(self) -> Float64Array:
        """What every key (keys,) is worth in the long run: for another process to begin with."""

    def remember(self, lasting: Float64Array) -> None:
        """Begin with what `lasting` gave elsewhere."""


class LRU:
    """The least recently used leaves first, whatever its weight: the yardstick, near to a page cache."""

    def __init__(self, keys: int) -> None:
        self._calls = 0
        self._last = np.full(keys, -np.inf)

    def use(self, keys: IntArray, weight: float | Float64Array = 1.0) -> None:
        """See `Policy.use`; calls are the clock, so that of a token's layers the later is more recent."""
        self._calls += 1
        self._last[keys] = self._calls

    def step(self) -> None:
        """Nothing: calls are the clock."""

    def priorities(self, keys: IntArray) -> Float64Array:
        """When each was last used."""
        return self._last[keys]

    def lasting(self) -> Float64Array:
        """Nothing: what was used last elsewhere says nothing here."""
        return np.zeros(len(self._last))

    def remember(self, lasting: Float64Array) -> None:
        """Nothing, see `lasting`."""


class TwoRates:
    """A use counts twice: for long, and much more for a moment.

    Worth is the sum over uses of weight * (2 ** (-age / half_life) + recent * 2 ** -age), age in tokens. Up
    to scale this is how likely a key is among the next token's. Both sums age by one product over all keys a
    token, which costs some microseconds, and neither grows without bound.
    """

    def __init__(self, keys: int, half_life: float = HALF_LIFE, recent: float = RECENT) -> None:
        self._long = np.zeros(keys)
        self._recent = np.zeros(keys)
        self._long_stays = 2 ** (-1 / half_life)
        self._added = recent

    def use(self, keys: IntArray, weight: float | Float64Array = 1.0) -> None:
        """See `Policy.use`."""
        self._long[keys] += weight
        self._recent[keys] += weight * self._added

    def step(self) -> None:
        """See `Policy.step`."""
        self._long *= self._long_stays
        self._recent *= 0.5

    def priorities(self, keys: IntArray) -> Float64Array:
        """The worth of each key now."""
        return self._long[keys] + self._recent[keys]

    def lasting(self) -> Float64Array:
        """See `Policy.lasting`."""
        return self._long.copy()

    def remember(self, lasting: Float64Array) -> None:
        """See `Policy.remember`; none of it is recent, and what comes now soon counts for more."""
        self._long[:] = lasting
