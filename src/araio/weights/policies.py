"""Which expert leaves memory first when room is needed for another: the protocol, and what ids alone tell.

Experts of all layers compete for one budget. A key is an int in [0, keys), `place of the layer * experts of a
layer + expert`. A policy is told what is used and gives each key a priority; it neither knows what is in
memory nor moves anything. `residency.py` asks it; `simulate.py` plays recorded routes to it.

`Forecast` learns what follows on what, and starts from `TwoRates`. It is the default where layers have very
many experts; elsewhere that is `Regression` (regression.py), which learns more and holds more. Rates are two
because no single half-life serves: where memory is small what was just used is worth keeping, where it is
large what is used often, and an LRFU (Lee et al. 2001) is good at one or the other. Ages are counted in turns
of a key's own layer, not in time: just after its layer's turn a key has longest to wait for the next, when
plain LRU holds it dearest. docs/lab-notes.md has the comparison, with what was tried and left out, and how
near to the optimum anything that cannot see ahead can come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from araio.kernels.ops import Int32Array
from araio.tensors import Float32Array

__all__ = [
    "LRU",
    "STAYS",
    "Forecast",
    "Habits",
    "Policy",
    "TwoRates",
    "check_habits",
    "uses_of",
    "worth_of_chance",
]

IntArray = NDArray[np.integer]
Float64Array = NDArray[np.float64]
FloatArray = NDArray[np.floating]

Habits: TypeAlias = Mapping[str, Float32Array]
"""What a policy has learned, by name, each (L, ...) of its layers: to go on with it elsewhere."""

# Steps of more tokens than this are prompts. An expert counts for the share of their tokens that chose it: a
# prompt, which touches nearly every expert, thus counts as one token and leaves in place what decoding uses.
DECODED_TOKENS = 32

# Chosen on synthetic traces and one of `pocket`; twice or half of any changes little.
HALF_LIFE = 128.0  # turns of a layer
RECENT = 24.0
STAYS = 2 ** (-1 / 8)
TRACE = 0.5
LEARNING_RATE = 0.025


class Policy(Protocol):
    """Ranks experts by how much is lost when they leave."""

    def use(
        self, keys: IntArray, weight: float | Float64Array = 1.0, scores: Float32Array | None = None
    ) -> None:
        """A layer has had its turn: a step of the engine has chosen these experts of it.

        keys    (N,), at least one, distinct, all of one layer
        weight  1 for decoded tokens; for a prompt (N,), the share of its tokens that chose each, for a prompt
                touches nearly all experts once and must not displace what decoding uses
        scores  (E,) of all experts of the layer by its router, the mean of the step's tokens, where known
        """

    def priorities(self, keys: IntArray) -> Float64Array:
        """The worth of each of these keys (N,), of any layers; the lowest leaves first."""

    def lasting(self) -> Float64Array:
        """What every key (keys,) is worth in the long run: for another process to begin with."""

    def remember(self, lasting: Float64Array) -> None:
        """Begin with what `lasting` gave elsewhere."""

    def habits(self) -> Habits:
        """All that was learned, where `lasting` is what is worth keeping of every run."""

    def adopt(self, habits: Habits) -> None:
        """Go on with what `habits` gave elsewhere, for as many layers as it has.

        Raises:
            ValueError: it is of another policy, or of layers with other numbers of experts.
        """


class LRU:
    """The least recently used leaves first, whatever its weight: the yardstick, near to a page cache."""

    def __init__(self, keys: int) -> None:
        self._calls = 0
        self._last = np.full(keys, -np.inf)

    def use(
        self, keys: IntArray, weight: float | Float64Array = 1.0, scores: Float32Array | None = None
    ) -> None:
        """See `Policy.use`; calls are the clock, so that of a token's layers the later is more recent."""
        self._calls += 1
        self._last[keys] = self._calls

    def priorities(self, keys: IntArray) -> Float64Array:
        """When each was last used."""
        return self._last[keys]

    def lasting(self) -> Float64Array:
        """Nothing: what was used last elsewhere says nothing here."""
        return np.zeros(len(self._last))

    def remember(self, lasting: Float64Array) -> None:
        """Nothing, see `lasting`."""

    def habits(self) -> Habits:
        """Nothing, see `lasting`."""
        return {}

    def adopt(self, habits: Habits) -> None:
        """Nothing, see `lasting`."""
        check_habits(habits, self.habits())


class TwoRates:
    """A use counts twice: for long, and much more for a moment.

    Worth is the sum over uses of weight * (2 ** (-age / half_life) + recent * 2 ** -age). The age of a use is
    how often its layer has been computed since, so that of two keys which each missed one chance neither is
    older. Up to scale, worth is how likely a key is at its layer's next turn.
    """

    def __init__(self, keys: int, experts: int, half_life: float = HALF_LIFE, recent: float = RECENT) -> None:
        self._experts = experts
        self._long = np.zeros(keys)
        self._recent = np.zeros(keys)
        self._long_stays = 2 ** (-1 / half_life)
        self._added = recent
        # One use at every turn sums up to 1 / forgets + 2 * recent, and its chance is 1.
        forgets = 1 - self._long_stays
        self._scale = forgets / (1 + 2 * recent * forgets)

    def use(
        self, keys: IntArray, weight: float | Float64Array = 1.0, scores: Float32Array | None = None
    ) -> None:
        """See `Policy.use`."""
        layer = _layer(keys, self._experts)
        self._long[layer] *= self._long_stays
        self._recent[layer] *= 0.5
        self._long[keys] += weight
        self._recent[keys] += weight * self._added

    def priorities(self, keys: IntArray) -> Float64Array:
        """The worth of each key."""
        return self._long[keys] + self._recent[keys]

    def chance(self, keys: slice) -> Float64Array:
        """How likely each of these keys is at the next turn, by its worth."""
        return np.minimum((self._long[keys] + self._recent[keys]) * self._scale, 1)

    def lasting(self) -> Float64Array:
        """See `Policy.lasting`."""
        return self._long.copy()

    def remember(self, lasting: Float64Array) -> None:
        """See `Policy.remember`; none of it is recent, and what comes now soon counts for more."""
        self._long[:] = lasting

    def habits(self) -> Habits:
        """See `Policy.habits`."""
        return {"rates": self._long.reshape(-1, self._experts).astype(np.float32)}

    def adopt(self, habits: Habits) -> None:
        """See `Policy.adopt`."""
        check_habits(habits, self.habits())
        rates = habits["rates"].ravel()
        self._long[: len(rates)] = rates


class Forecast:
    """`TwoRates`, corrected by what a token's experts say about the next tokens of their layer.

    The value of a key is what its next use is worth: 1 at the layer's next turn, STAYS times as much with
    every turn later. The two rates give a first guess, as if each turn chose it with the same chance. Added
    is the mean of `follows[e]` over the experts e that the layer has chosen, and TRACE of that of the token
    before. `follows` is a table (E, E) for each layer, all 0 at first; temporal differences teach it as
    tokens pass (Sutton 1988):

        target  1 for a key that is used now, else STAYS * its value now
        follows[what was chosen a turn ago] += LEARNING_RATE * (target - its value a turn ago)

    Several sequences decoded together are taken as one whose experts are those of all.
    """

    def __init__(self, keys: int, experts: int) -> None:
        self._rates = TwoRates(keys, experts)
        self._experts = experts
        self._value = np.zeros(keys)
        self._follows = np.zeros((keys, experts), np.float32)
        nobody = np.empty(0, np.int64)
        self._chosen: list[tuple[IntArray, IntArray]]  # by layer: a turn ago, two turns ago
        self._chosen = [(nobody, nobody)] * (keys // experts)

    @staticmethod
    def bytes(keys: int, experts: int) -> int:
        """That the table of what follows on what takes, the largest part."""
        return keys * experts * np.dtype(np.float32).itemsize

    def use(
        self, keys: IntArray, weight: float | Float64Array = 1.0, scores: Float32Array | None = None
    ) -> None:
        """See `Policy.use`; what follows on what is learned from decoded tokens alone."""
        self._rates.use(keys, weight)
        layer = _layer(keys, self._experts)
        value = worth_of_chance(self._rates.chance(layer))
        if isinstance(weight, float) and weight >= 1:
            place = layer.start // self._experts
            before, earlier = self._chosen[place]
            value += self._said(keys) + TRACE * self._said(before)
            error = STAYS * value
            error[keys - layer.start] = 1
            error -= self._value[layer]
            error *= LEARNING_RATE
            self._follows[before] += error
            self._follows[earlier] += TRACE * error
            self._chosen[place] = (keys.copy(), before)
        self._value[layer] = value

    def priorities(self, keys: IntArray) -> Float64Array:
        """The value of each key, as of its layer's last turn."""
        return self._value[keys]

    def lasting(self) -> Float64Array:
        """See `Policy.lasting`; what follows on what is learned anew, for it is large and soon there."""
        return self._rates.lasting()

    def remember(self, lasting: Float64Array) -> None:
        """See `Policy.remember`."""
        self._rates.remember(lasting)
        self._value = worth_of_chance(self._rates.chance(slice(None)))

    def habits(self) -> Habits:
        """See `Policy.habits`; `follows` is (L, E, E)."""
        experts = self._experts
        return {**self._rates.habits(), "follows": self._follows.reshape(-1, experts, experts)}

    def adopt(self, habits: Habits) -> None:
        """See `Policy.adopt`."""
        check_habits(habits, self.habits())
        self._rates.adopt({"rates": habits["rates"]})
        self._value = worth_of_chance(self._rates.chance(slice(None)))
        follows = habits["follows"].reshape(-1, self._experts)
        self._follows[: len(follows)] = follows

    def _said(self, keys: IntArray) -> NDArray[np.float32] | float:
        """What these experts, all of one layer, say about each of it."""
        return self._follows[keys].sum(axis=0) / len(keys) if len(keys) else 0.0


def uses_of(expert_ids: Int32Array) -> tuple[IntArray, float | Float64Array]:
    """What a step's choice (T, K) of a layer is to a policy: distinct ids, and the weight of each."""
    if len(expert_ids) == 1:
        return expert_ids[0], 1.0
    if len(expert_ids) <= DECODED_TOKENS:
        return np.unique(expert_ids), 1.0
    ids, tokens = np.unique(expert_ids, return_counts=True)
    return ids, tokens / len(expert_ids)


def check_habits(habits: Habits, own: Habits) -> None:
    """Raise ValueError unless habits have the names and shapes of a policy's own, but for fewer layers."""
    if set(habits) != set(own):
        raise ValueError(f"has {sorted(habits)}; expected {sorted(own)}")
    for name, array in habits.items():
        wanted = own[name].shape
        if len(array) > len(own[name]) or array.shape[1:] != wanted[1:]:
            raise ValueError(f"{name} is {list(array.shape)}; expected {list(wanted)}")
    if len({len(array) for array in habits.values()}) > 1:
        raise ValueError("has arrays of different numbers of layers")


def _layer(keys: IntArray, experts: int) -> slice:
    """All keys of the layer that these are of."""
    first = int(keys[0]) // experts * experts
    return slice(first, first + experts)


def worth_of_chance(chance: Float64Array) -> Float64Array:
    """What the next use of keys (N,) is worth that each turn chooses with the same chance.

    1 at the next turn, STAYS times as much with every turn later.
    """
    return chance / (1 - STAYS * (1 - chance))
