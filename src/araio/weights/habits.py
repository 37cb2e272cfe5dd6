"""What the policy of a model's experts can learn before the model streams, from routes that were recorded.

A cache that begins with nothing learns what follows on what while its misses are paid for. A profile carries
what was learned on its calibration instead, and a run with it begins there. Read `policies.py` and
`regression.py` for what is learned, `adapt/calibration.py` for who records.
"""

from __future__ import annotations

from collections.abc import Sequence

from araio.kernels.ops import Int32Array
from araio.tensors import Float32Array
from araio.weights.policies import Forecast, Habits, uses_of
from araio.weights.regression import MOST_EXPERTS, Regression

__all__ = ["HabitLearner", "policy_for"]


def policy_for(experts: int) -> type[Regression] | type[Forecast]:
    """The policy of a model by the experts of a layer: the one that misses least, where it is affordable."""
    return Regression if experts <= MOST_EXPERTS else Forecast


class HabitLearner:
    """Plays recorded sequences to a policy, as a run that decodes them would.

    layers   of the model that route, in order; each has so many `experts`
    """

    def __init__(self, layers: Sequence[int], experts: int) -> None:
        self.layers = list(layers)
        self._experts = experts
        self._policy = policy_for(experts)(len(layers) * experts, experts)
        self.is_empty = True

    @property
    def wants_scores(self) -> bool:
        """Whether it learns from routers' scores, too."""
        return isinstance(self._policy, Regression)

    def learn(self, ids: Int32Array, scores: Float32Array | None, prompt_tokens: int) -> None:
        """One sequence: its prompt as one step, then token by token.

        ids            (T, L, K) distinct experts of each token and layer
        scores         (T, L, E) of the routers, if they are wanted
        prompt_tokens  how many of the T are its prompt
        """
        steps = [slice(0, prompt_tokens)] if prompt_tokens else []
        steps += [slice(token, token + 1) for token in range(prompt_tokens, len(ids))]
        for step in steps:
            for place in range(len(self.layers)):
                chosen, weight = uses_of(ids[step, place])
                seen = None if scores is None else scores[step, place].mean(axis=0)
                self._policy.use(chosen + place * self._experts, weight, seen)
        self.is_empty = self.is_empty and len(ids) <= prompt_tokens

    @property
    def habits(self) -> Habits | None:
        """What was learned; None where nothing was decoded."""
        return None if self.is_empty else self._policy.habits()
