"""`Regression`: when experts will be used next, from what a token chose and what its router thought of all.

`Forecast` (policies.py) learns what follows on what by small steps, one as long as the other whatever inputs
have in common, so that much of what they say is never learned. Here the same question is put to least
squares, solved anew as tokens pass (recursive least squares, e.g. Haykin, Adaptive Filter Theory), and scores
of experts that were not chosen are inputs too. It starts knowing nothing and needs no data but what runs.

For each layer it holds the square of its inputs, three for each expert: 0.2 MB for 64 experts. For 256 that
is 3.2 MB and some 0.5 ms for each layer of a token, with nothing gained where it could be tried: see
`MOST_EXPERTS`. docs/lab-notes.md has what was measured. Read `residency.py` for the caller.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from araio.tensors import Float32Array
from araio.weights.policies import STAYS, Habits, TwoRates, check_habits, worth_of_chance

__all__ = ["MOST_EXPERTS", "Regression"]

IntArray: TypeAlias = npt.NDArray[np.integer]
Float64Array: TypeAlias = npt.NDArray[np.float64]

MOST_EXPERTS = 128  # of a layer; with more, what is learned comes too late and costs too much
HORIZON = 8  # turns
# Chosen on `pocket`'s routes and synthetic ones; half or twice of either changes little.
DOUBT = (
    1 / 32
)  # how firmly weights are 0 at first, by the square of the experts, for each is used more rarely
SCORES = 8.0  # that a token's scores weigh together, where an expert that it chose weighs 1
# Weights may wander by so much a turn, by what they might have been at first: what was learned from many
# thousands of tokens can still be unlearned, and rounding never makes the matrix indefinite.
WANDERS = 1e-6


class Regression:
    """`TwoRates`, corrected by a linear function of what is known of a token.

    The value of a key is what its next use is worth, as in `Forecast`: 1 at the layer's next turn, STAYS
    times as much with every turn later. The two rates give a first guess. Inputs are which experts the layer
    has chosen, which it chose a turn ago, its router's scores, and 1. A turn is learned from at least HORIZON
    turns later: what was used since is then known, and for the others the value of that time stands in.

    Several sequences decoded together are taken as one whose experts are those of all.
    """

    def __init__(self, keys: int, experts: int) -> None:
        self._rates = TwoRates(keys, experts)
        self._experts = experts
        self._value = np.zeros(keys)
        self._layers = [_Layer(experts) for _ in range(keys // experts)]

    @staticmethod
    def bytes(keys: int, experts: int) -> int:
        """That all of it takes, but for what grows with keys alone."""
        width = _width(experts)
        numbers = width * (width + experts) + 2 * HORIZON * (width + experts)
        return keys // experts * numbers * np.dtype(np.float32).itemsize

    def use(
        self, keys: IntArray, weight: float | Float64Array = 1.0, scores: Float32Array | None = None
    ) -> None:
        """See `Policy.use`; a prompt teaches nothing, and what follows on it does not follow on what was."""
        self._rates.use(keys, weight)
        place = int(keys[0]) // self._experts
        first = place * self._experts
        of_layer = slice(first, first + self._experts)
        guess = worth_of_chance(self._rates.chance(of_layer))
        if isinstance(weight, float) and weight >= 1:
            guess = self._layers[place].turn(keys - first, scores, guess)
        else:
            self._layers[place].forget_turns()
        self._value[of_layer] = guess

    def priorities(self, keys: IntArray) -> Float64Array:
        """The value of each key, as of its layer's last turn."""
        return self._value[keys]

    def lasting(self) -> Float64Array:
        """See `Policy.lasting`; what was learned is large and soon there again."""
        return self._rates.lasting()

    def remember(self, lasting: Float64Array) -> None:
        """See `Policy.remember`."""
        self._rates.remember(lasting)
        self._value = worth_of_chance(self._rates.chance(slice(None)))

    def habits(self) -> Habits:
        """See `Policy.habits`; `spread` is (L, I, I) and `weights` (L, I, E)."""
        return {
            **self._rates.habits(),
            "spread": np.stack([layer.spread for layer in self._layers]),
            "weights": np.stack([layer.weights for layer in self._layers]),
        }

    def adopt(self, habits: Habits) -> None:
        """See `Policy.adopt`."""
        check_habits(habits, self.habits())
        self._rates.adopt({"rates": habits["rates"]})
        self._value = worth_of_chance(self._rates.chance(slice(None)))
        for layer, spread, weights in zip(self._layers, habits["spread"], habits["weights"], strict=False):
            layer.spread[:], layer.weights[:] = spread, weights


class _Layer:
    """The regression of one layer and the turns that it has not yet learned from.

    Turns are learned by blocks of HORIZON, as soon as twice as many are there: that is exact, and the large
    matrix passes through memory once for all of them.

    spread   (I, I) how much weights may still be wrong: symmetric, positive
    weights  (I, E) from inputs to corrections
    """

    def __init__(self, experts: int) -> None:
        width = _width(experts)
        self.spread = np.zeros((width, width), np.float32)
        self._diagonal = self.spread.reshape(-1)[:: width + 1]
        self._diagonal[:] = self._first_spread = 1 / (DOUBT * experts**2)
        self.weights = np.zeros((width, experts), np.float32)
        self._inputs = np.zeros((2 * HORIZON, width), np.float32)
        self._guesses = np.zeros((2 * HORIZON, experts), np.float32)
        self._chosen: list[IntArray] = []  # by turn

    def forget_turns(self) -> None:
        """What comes next has nothing to do with what came before."""
        self._chosen.clear()

    def turn(self, chosen: IntArray, scores: Float32Array | None, guess: Float64Array) -> Float64Array:
        """The layer has chosen: what its experts (E,) are worth now.

        scores  (E,) or None
        guess   (E,) their values as far as the two rates know
        """
        if len(self._chosen) == 2 * HORIZON:  # Ctrl-C has come while it learned
            self.forget_turns()
        now = len(self._chosen)
        inputs = self._inputs[now]
        self._note(inputs, chosen, scores)
        self._guesses[now] = guess
        self._chosen.append(chosen)
        value: Float64Array = guess + inputs @ self.weights
        if len(self._chosen) == 2 * HORIZON:
            self._learn(self._inputs[:HORIZON], self._outcomes(value) - self._guesses[:HORIZON])
            self._inputs[:HORIZON] = self._inputs[HORIZON:]
            self._guesses[:HORIZON] = self._guesses[HORIZON:]
            del self._chosen[:HORIZON]
        return value

    def _note(self, inputs: Float32Array, chosen: IntArray, scores: Float32Array | None) -> None:
        """Fill the inputs (I,) of a turn."""
        experts = self.weights.shape[1]
        inputs[:] = 0
        inputs[chosen] = 1
        if self._chosen:
            inputs[experts + self._chosen[-1]] = 1
        # What is not a number, from a model that is broken, would stay for good.
        if scores is not None and np.isfinite(scores).all():
            centred = scores - scores.mean()
            # A router that scores all alike says nothing, and must not divide by zero.
            length = max(math.sqrt(centred @ centred), 1e-6)
            inputs[2 * experts : -1] = centred * (math.sqrt(SCORES) / length)
        inputs[-1] = 1

    def _outcomes(self, value: Float64Array) -> Float32Array:
        """What experts were worth in each turn of the older half (HORIZON, E), now that what came is known.

        value  (E,) what they are worth now
        """
        outcomes = np.empty((HORIZON, len(value)), np.float32)
        outcome = value.copy()
        for turn in range(2 * HORIZON - 1, 0, -1):
            outcome *= STAYS
            outcome[self._chosen[turn]] = 1
            if turn <= HORIZON:
                outcomes[turn - 1] = outcome
        return outcomes

    def _learn(self, inputs: Float32Array, wanted: Float32Array) -> None:
        """Recursive least squares, by inputs (N, I) and the corrections (N, E) that would have been right."""
        pull = inputs @ self.spread
        root = np.linalg.cholesky(np.eye(len(inputs), dtype=np.float32) + pull @ inputs.T)
        pull = np.linalg.solve(root, pull)
        surprise = np.linalg.solve(root, wanted - inputs @ self.weights)
        self.weights += pull.T @ surprise
        self.spread -= pull.T @ pull
        self._diagonal += len(inputs) * WANDERS * self._first_spread


def _width(experts: int) -> int:
    """Inputs of a layer."""
    return 3 * experts + 1
