"""How evenly experts are used: load, imbalance, Gini coefficient, entropy.

All of it is of counts alone, so that it serves a domain, all domains together, or a window of training. An
expert is chosen at most once a token, so no load is more than 1 / K of a layer's choices: the Gini
coefficient cannot reach 1 nor the entropy 0, and both are given on the scale that they can reach as well.
Uneven load says nothing about domains: read `specialisation.py` for those.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from araio.lens.result import LEFT_OUT, Result
from araio.lens.routes import Float64Array, Int64Array

__all__ = ["Load", "entropy_bits", "load_of", "shares"]


@dataclass(frozen=True)
class Load(Result):
    """Load of the experts of any number of layers; `...` stands for the axes before the experts.

    counts             (..., E) choices
    relative           (..., E) load over the mean load: 1 is uniform, E / K the most possible
    imbalance          (...) busiest over mean, minus 1 (MaxVio)
    busiest            (...) the expert with the highest load
    unused             (...) experts that nothing chose
    gini               (...) 0 for equal loads, at most `gini_bound`
    gini_scaled        (...) gini / gini_bound, 0 to 1
    gini_bound         1 - K / E
    entropy_bits       (...) log2 K to log2 E
    entropy_scaled     (...) the same from 0, the same K experts for all, to 1, equal loads
    effective_experts  (...) 2 ^ entropy
    kl_to_uniform_bits (...) log2 E - entropy
    experts_for        how many of the busiest experts make up 50, 80, 90, 95 and 99 % of choices, (..., 5)

    A layer without choices has NaN, and -1 where a number of experts is asked for.
    """

    counts: Int64Array = field(metadata=LEFT_OUT)
    relative: Float64Array
    imbalance: Float64Array
    busiest: Int64Array
    unused: Int64Array
    gini: Float64Array
    gini_scaled: Float64Array
    gini_bound: float
    entropy_bits: Float64Array
    entropy_scaled: Float64Array
    effective_experts: Float64Array
    kl_to_uniform_bits: Float64Array
    experts_for: Int64Array


LOAD_SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)


def load_of(counts: Int64Array, top_k: int) -> Load:
    """The load of experts that were chosen `counts` (..., E) times, `top_k` of them by each token."""
    experts = counts.shape[-1]
    share = shares(counts)
    highest = share.max(-1)
    ranks = 2 * np.arange(1, experts + 1) - experts - 1
    gini = np.sort(share, axis=-1) @ ranks / experts
    bound = 1 - top_k / experts
    entropy = entropy_bits(share)
    most, least = np.log2(experts), np.log2(top_k)
    is_empty = np.isnan(highest)
    return Load(
        counts=counts,
        relative=share * experts,
        imbalance=highest * experts - 1,
        busiest=np.where(is_empty, -1, counts.argmax(-1)),
        unused=np.where(is_empty, -1, np.count_nonzero(counts == 0, axis=-1)),
        gini=gini,
        gini_scaled=gini / bound if bound else np.zeros_like(gini),
        gini_bound=bound,
        entropy_bits=entropy,
        entropy_scaled=(entropy - least) / (most - least) if bound else np.ones_like(entropy),
        effective_experts=2**entropy,
        kl_to_uniform_bits=most - entropy,
        experts_for=_experts_for(share),
    )


def shares(counts: npt.NDArray[np.number]) -> Float64Array:
    """Counts (..., E) over their sum, q in the formulas; NaN where there are none."""
    total = counts.sum(-1, keepdims=True, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / np.where(total > 0, total, np.nan))


def entropy_bits(share: Float64Array) -> Float64Array:
    """H = - sum of q log2 q over the last axis, with 0 log2 0 = 0."""
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(-np.sum(share * logs, axis=-1))


def _experts_for(share: Float64Array) -> Int64Array:
    falling = -np.sort(-share, axis=-1)
    # What 0.8 of a sum is must not hang on how the sum was rounded.
    reached = np.cumsum(falling, axis=-1)[..., None, :] >= np.array(LOAD_SHARES)[:, None] - 1e-12
    first = reached.argmax(-1) + 1
    return np.where(np.isnan(share[..., :1]), -1, first)
