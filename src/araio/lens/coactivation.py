"""Which experts are chosen together, in one layer and from one layer to the next.

A token's K experts are different ones, so that even a router which pays no heed to pairs chooses every pair a
little less often than independent choices would: the lift to compare with is not 1 but `structural_lift`, and
where the router first chooses groups, that is high inside a group and low between two. Loads that differ move
it further. Read a lift beside it, and only of pairs that were expected often enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from araio.lens.result import LEFT_OUT, Result
from araio.lens.routes import BoolArray, Float64Array, Int64Array, IntArray, Routes

__all__ = ["Coactivation", "Pair", "Transitions", "coactivation", "spread", "structural_lift", "transitions"]

LEAST_EXPECTED = 5.0
"""Pairs that independent choices would have made less often than that say nothing."""

BLOCK = 4096  # tokens that are spread over experts at once


@dataclass(frozen=True)
class Pair(Result):
    """Two experts: a layer by its place, ids, how often they met, and how much more often than by chance."""

    layer: int
    first: int
    second: int
    count: int
    lift: float


@dataclass(frozen=True)
class Coactivation(Result):
    """Experts of one layer that tokens choose together.

    pairs          (L, E, E) tokens that chose both; the diagonal is how often each was chosen at all
    lift           (L, E, E) pairs x T / (n_a n_b); NaN where fewer than `LEAST_EXPECTED` were expected, and
                   on the diagonal
    quantiles      (L, 5) of the lift over pairs: 1, 25, 50, 75 and 99 %
    within, between  (L,) lift of all pairs of one group of experts together, and of two; between is NaN for
                   a router without groups
    within_structural, between_structural  what the way of choosing alone gives, for equal loads
    top            the pairs with the largest lift over all layers
    """

    pairs: Int64Array = field(metadata=LEFT_OUT)
    lift: Float64Array = field(metadata=LEFT_OUT)
    quantiles: Float64Array
    within: Float64Array
    between: Float64Array
    within_structural: float
    between_structural: float
    top: tuple[Pair, ...]


@dataclass(frozen=True)
class Transitions(Result):
    """Experts of one layer and those of the next, of the same token.

    counts       (L - 1, E, E) tokens that chose the first in a layer and the second in the next
    information  (L - 1,) bits that one of the K choices says about one of the next layer's
    top          the pairs with the largest lift; `layer` is that of the first
    """

    counts: Int64Array = field(metadata=LEFT_OUT)
    information: Float64Array
    top: tuple[Pair, ...]


def structural_lift(experts: int, top_k: int, n_group: int = 1, topk_group: int = 1) -> tuple[float, float]:
    """Lift of a pair within a group and between groups, when groups and experts are chosen at random.

    With g of G groups chosen, of E / G experts each, m = g E / G are left to choose K from: a pair of those
    is chosen with K (K - 1) / (m (m - 1)), both of a group are left with g / G, of two with g (g - 1) / (G (G
    - 1)). Without groups it is E (K - 1) / (K (E - 1)): 0.847 for 6 of 64. NaN for what cannot happen.
    """
    left = topk_group * experts // n_group
    both = top_k * (top_k - 1) / (left * (left - 1)) if left > 1 else float("nan")
    scale = both * (experts / top_k) ** 2
    if n_group == 1:
        return scale, float("nan")
    within = topk_group / n_group if experts > n_group else float("nan")
    return scale * within, scale * topk_group * (topk_group - 1) / (n_group * (n_group - 1))


def coactivation(routes: Routes, top: int = 50) -> Coactivation:
    """Which experts of a layer are chosen together, and the `top` pairs of all layers."""
    experts, depth = routes.n_experts, routes.depth
    pairs = np.empty((depth, experts, experts), np.int64)
    for layer in range(depth):
        pairs[layer] = _together(routes.experts[:, layer], routes.experts[:, layer], experts)
    used = np.diagonal(pairs, axis1=1, axis2=2).astype(np.float64)
    expected = used[:, :, None] * used[:, None, :] / max(routes.tokens, 1)
    off_diagonal = ~np.eye(experts, dtype=bool)
    lift = _lift(pairs, expected, off_diagonal)
    group = np.arange(experts) * routes.n_group // experts
    is_within = (group[:, None] == group) & off_diagonal
    within, between = (_pooled_lift(pairs, expected, mask) for mask in (is_within, ~is_within & off_diagonal))
    structural = structural_lift(experts, routes.top_k, routes.n_group, routes.topk_group)
    return Coactivation(
        pairs=pairs,
        lift=lift,
        quantiles=np.stack([_quantiles(layer[np.triu_indices(experts, 1)]) for layer in lift]),
        within=within,
        between=between,
        within_structural=structural[0],
        between_structural=structural[1],
        top=_largest(np.where(np.triu(off_diagonal), lift, np.nan), pairs, routes.layers, top),
    )


def transitions(routes: Routes, top: int = 50) -> Transitions:
    """How the experts of a layer go with those of the next."""
    experts, steps = routes.n_experts, routes.depth - 1
    counts = np.empty((steps, experts, experts), np.int64)
    for layer in range(steps):
        counts[layer] = _together(routes.experts[:, layer], routes.experts[:, layer + 1], experts)
    used = routes.counts.sum(0).astype(np.float64)
    expected = used[:-1, :, None] * used[1:, None, :] / max(routes.tokens, 1)
    lift = _lift(counts, expected, np.ones((experts, experts), bool))
    # A pair of the K x K of a token has the weight 1 / K^2, so that tokens count alike.
    share = counts / (routes.tokens * routes.top_k**2)
    ratio = np.divide(counts, expected, out=np.ones(counts.shape), where=counts > 0)
    return Transitions(
        counts=counts,
        information=np.sum(share * np.log2(ratio), axis=(1, 2)),
        top=_largest(lift, counts, routes.layers, top),
    )


def _together(first: IntArray, second: IntArray, experts: int) -> Int64Array:
    """(E, E) tokens that chose an expert among `first` (T, K) and another among `second`."""
    total = np.zeros((experts, experts))
    for begin in range(0, len(first), BLOCK):
        a, b = (spread(ids[begin : begin + BLOCK], experts) for ids in (first, second))
        total += a.T @ b
    return total.astype(np.int64)


def spread(ids: IntArray, experts: int) -> npt.NDArray[np.float32]:
    """(T, E) 1 where a token chose an expert; sums of a block are exact in float32."""
    is_chosen = np.zeros((len(ids), experts), np.float32)
    np.put_along_axis(is_chosen, ids.astype(np.int64), values=1, axis=1)
    return is_chosen


def _lift(counts: Int64Array, expected: Float64Array, wanted: BoolArray) -> Float64Array:
    is_known = (expected >= LEAST_EXPECTED) & wanted
    return np.asarray(np.divide(counts, expected, out=np.full(counts.shape, np.nan), where=is_known))


def _pooled_lift(pairs: Int64Array, expected: Float64Array, mask: BoolArray) -> Float64Array:
    total = expected[:, mask].sum(1)
    return np.asarray(
        np.divide(pairs[:, mask].sum(1), total, out=np.full(len(pairs), np.nan), where=total > 0)
    )


def _quantiles(lift: Float64Array) -> Float64Array:
    known = lift[~np.isnan(lift)]
    return np.quantile(known, (0.01, 0.25, 0.5, 0.75, 0.99)) if len(known) else np.full(5, np.nan)


def _largest(lift: Float64Array, counts: Int64Array, layers: tuple[int, ...], top: int) -> tuple[Pair, ...]:
    """The pairs with the largest lift, of equal ones the first."""
    order = np.argsort(-np.nan_to_num(lift, nan=-1.0), axis=None, kind="stable")[:top]
    places = zip(*(index.tolist() for index in np.unravel_index(order, lift.shape)), strict=True)
    return tuple(
        Pair(
            layers[layer], first, second, int(counts[layer, first, second]), float(lift[layer, first, second])
        )
        for layer, first, second in places
        if not np.isnan(lift[layer, first, second])
    )
