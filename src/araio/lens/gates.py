"""How sure a router is: the weights of the chosen experts, their sum, and how far the last one was ahead.

Weights are those before the model's scaling factor. Where the router does not make them add up to 1 their sum
says how much of its score the chosen K have at all. A small margin means that a little rounding, in another
engine or precision, chooses another expert.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from araio.lens.result import Result
from araio.lens.routes import Float64Array, Routes

__all__ = ["QUANTILES", "Gates", "gates"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Gates(Result):
    """Weights and margins of L layers; NaN where the trace does not have them.

    shares     (L, K) weight of the first, second .. expert over the sum of a token's weights, mean
    mass       (L, 5) quantiles of that sum
    margin     (L, 5) quantiles of the last chosen expert's score minus the first one's that was not chosen
    quantiles  which
    """

    shares: Float64Array
    mass: Float64Array
    margin: Float64Array
    quantiles: tuple[float, ...] = QUANTILES


def gates(routes: Routes) -> Gates:
    """How sure the router is, over all tokens."""
    depth, top_k = routes.depth, routes.top_k
    shares, mass = np.full((depth, top_k), np.nan), np.full((depth, len(QUANTILES)), np.nan)
    margin = mass.copy()
    for layer in range(depth):
        if routes.weights is not None:
            weights = routes.weights[:, layer].astype(np.float64)
            total = weights.sum(1)
            mass[layer] = np.quantile(total, QUANTILES)
            if (total > 0).any():
                shares[layer] = (weights[total > 0] / total[total > 0, None]).mean(0)
        if routes.margin is not None:
            margin[layer] = np.quantile(routes.margin[:, layer].astype(np.float64), QUANTILES)
    return Gates(shares, mass, margin)
