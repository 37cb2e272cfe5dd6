"""What is maximised: GRPO and three of its descendants, as pure functions of log-probabilities and rewards.

All four are `sum_t w_t min(r_t A, clip(r_t, 1 - low, 1 + high) A)` over the tokens t of all sampled answers,
where A is the answer's advantage over its group, r_t the ratio of the token's probability now to that at
which it was sampled, and w_t a weight. They differ in three choices:

    objective  advantage          ratio               weight of a token      clip
    grpo       (R - mean) / std   of the token        1 / (S length)         0.2
    dr_grpo    R - mean           of the token        1 / (S most tokens)    0.2
    dapo       (R - mean) / std   of the token        1 / (all tokens)       0.2 below, 0.28 above
    gspo       (R - mean) / std   of the sequence     1 / (S length)         3e-4 below, 4e-4 above

with S answers in the update. GRPO: DeepSeekMath, arXiv 2402.03300, equation 3. Dr. GRPO: arXiv 2503.20783,
section 3.2: dividing by the length favours long wrong answers, dividing by the deviation those questions
that are nearly always or nearly never answered. DAPO: arXiv 2503.14476, equation 8. GSPO: arXiv 2507.18071,
equations 5 to 7: the geometric mean of the tokens' ratios, which stays near 1 where single tokens do not, as
they do when other experts are chosen. While the weights are those that sampled, every ratio is 1 and the
gradient is REINFORCE's. Read `update.py` for who differentiates this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from araio.train.stages import OBJECTIVE_NAMES

__all__ = ["OBJECTIVES", "Objective", "group_advantages", "k3", "objective_named", "surrogate"]

MOST_LOG_RATIO = 10.0
"""A ratio beyond e ** 10 says only that the two policies have nothing in common; its power would overflow."""


@dataclass(frozen=True)
class Objective:
    """One row of the table above.

    divides_by_deviation  of the rewards of a group
    ratio                 `(log_ratios (n,), sequence (n,), lengths (S,)) -> (n,)`, with gradient
    weight                `(lengths (S,), most_tokens) -> (S,)`, of each token of a sequence
    clip_low, clip_high   how far a ratio may fall below and rise above 1 and still move the weights
    """

    divides_by_deviation: bool
    ratio: Callable[[Tensor, Tensor, Tensor], Tensor]
    weight: Callable[[Tensor, int], Tensor]
    clip_low: float
    clip_high: float


def token_ratio(log_ratios: Tensor, sequence: Tensor, lengths: Tensor) -> Tensor:
    """Each token's own."""
    return log_ratios.exp()


def sequence_ratio(log_ratios: Tensor, sequence: Tensor, lengths: Tensor) -> Tensor:
    """The geometric mean over the sequence's tokens, for each of them (GSPO, equation 7)."""
    sums = log_ratios.new_zeros(len(lengths)).index_add(0, sequence, log_ratios)
    return (sums / lengths.clamp(min=1))[sequence].exp()


def mean_of_sequences(lengths: Tensor, most_tokens: int) -> Tensor:
    """The mean over sequences of the mean over their tokens."""
    return 1.0 / (len(lengths) * lengths.clamp(min=1).double())


def constant(lengths: Tensor, most_tokens: int) -> Tensor:
    """Whatever the length, as if every answer were as long as it may be."""
    return torch.full((len(lengths),), 1.0 / (len(lengths) * most_tokens), dtype=torch.float64)


def mean_of_tokens(lengths: Tensor, most_tokens: int) -> Tensor:
    """The mean over all tokens of the update."""
    return torch.full((len(lengths),), 1.0 / float(lengths.sum().clamp(min=1)), dtype=torch.float64)


OBJECTIVES: dict[str, Objective] = {
    "grpo": Objective(True, token_ratio, mean_of_sequences, 0.2, 0.2),
    "dr_grpo": Objective(False, token_ratio, constant, 0.2, 0.2),
    "dapo": Objective(True, token_ratio, mean_of_tokens, 0.2, 0.28),
    "gspo": Objective(True, sequence_ratio, mean_of_sequences, 3e-4, 4e-4),
}
assert tuple(OBJECTIVES) == OBJECTIVE_NAMES


def objective_named(name: str, clip_low: float | None = None, clip_high: float | None = None) -> Objective:
    """The objective of that name, with other clips where they are given."""
    objective = OBJECTIVES[name]
    return replace(
        objective,
        clip_low=objective.clip_low if clip_low is None else clip_low,
        clip_high=objective.clip_high if clip_high is None else clip_high,
    )


def group_advantages(rewards: Tensor, divides_by_deviation: bool) -> Tensor:
    """How much better each of a group's answers (G,) was than their mean; zeros where all are equal."""
    centred = rewards - rewards.mean()
    if not divides_by_deviation:
        return centred
    deviation = rewards.std(correction=0)
    return centred / deviation if deviation > 1e-8 else torch.zeros_like(centred)


def surrogate(
    objective: Objective,
    log_ratios: Tensor,
    sequence: Tensor,
    advantages: Tensor,
    lengths: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """The part of the objective that some whole sequences have in it; its gradient is to be ascended.

    log_ratios  (n,) of their tokens: log-probability now, with gradient, less that at sampling
    sequence    (n,) int64, the number of each token's sequence among the S of the update
    advantages, lengths, weights  (S,) of all sequences of the update
    returns     the sum over these tokens, and (n,) whether the clip has cut a token's gradient off
    """
    ratio = objective.ratio(log_ratios.clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO), sequence, lengths)
    advantage = advantages[sequence]
    clipped = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    is_clipped = (clipped * advantage < ratio * advantage).detach()
    return (weights[sequence] * gain).sum(), is_clipped


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) of each token, estimated from the sampled one alone (Schulman 2020).

    `q - log q - 1` with `q` the reference's probability over the policy's: never below 0, and unbiased as
    long as the policy has sampled the token.
    """
    log_q = (reference - logprobs).clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
    return log_q.exp() - log_q - 1
