"""How much experts differ by domain: Jensen-Shannon divergence, mutual information, and their nulls.

Two samples of one text differ too, the more the shorter they are. So a divergence stands beside the floor
that halves of one domain show, and mutual information beside its null, the same sequences with their domains
dealt anew. Only what is above them is specialisation; and what is above them is graded, not a proof that
experts are modules: `coverage.py` says how few tokens stay within a domain's experts. Read `domains.py` for
single experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from araio.lens.load import entropy_bits, shares
from araio.lens.resampling import dealt, halves, membership, p_value
from araio.lens.result import Result
from araio.lens.routes import Float64Array, Routes

__all__ = ["Divergence", "Information", "divergence", "information", "jensen_shannon_bits"]


@dataclass(frozen=True)
class Divergence(Result):
    """Jensen-Shannon divergence of the loads of two domains, in bits: 0 the same, 1 no expert in common.

    bits    (D, D, L)
    floor   (D, D, L) mean divergence of two halves of one domain's sequences, of both domains the mean.
            Halves are shorter than domains, so the floor is rather too high than too low
    excess  (D, D, L) bits minus floor, not below 0
    mean_bits, mean_floor, mean_excess  (L,) over pairs of different domains; NaN for one domain
    """

    bits: Float64Array
    floor: Float64Array
    excess: Float64Array
    mean_bits: Float64Array
    mean_floor: Float64Array
    mean_excess: Float64Array


@dataclass(frozen=True)
class Information(Result):
    """Mutual information of a choice of an expert and the domain, in bits, all domains equally likely.

    bits       (L,) 0 to `most`
    null_mean  (L,) mean over permutations: what samples of this size show with no specialisation at all
    null_high  (L,) 95 % of permutations are below
    excess     (L,) bits minus null_mean, not below 0
    p          (L,) share of permutations that are as large, itself counted
    most       log2 D
    """

    bits: Float64Array
    null_mean: Float64Array
    null_high: Float64Array
    excess: Float64Array
    p: Float64Array
    most: float


def jensen_shannon_bits(a: Float64Array, b: Float64Array) -> Float64Array:
    """H((a + b) / 2) - (H(a) + H(b)) / 2 of shares (..., E) (Lin 1991), in bits."""
    both = entropy_bits((a + b) / 2) - (entropy_bits(a) + entropy_bits(b)) / 2
    return np.asarray(np.maximum(both, 0))  # rounding may go below


def divergence(routes: Routes, seed: int = 0, *, splits: int = 20) -> Divergence:
    """The divergence of every pair of domains in every layer, and its floor over so many random halvings."""
    share = shares(routes.counts)
    domains = len(share)
    bits = jensen_shannon_bits(share[:, None], share[None, :])
    own = _split_half(routes, splits, np.random.default_rng(seed))
    floor = (own[:, None] + own[None, :]) / 2
    pairs = np.triu_indices(domains, 1)
    excess = np.maximum(bits - floor, 0)
    bits_mean, floor_mean, excess_mean = (_mean_of_known(value[pairs]) for value in (bits, floor, excess))
    return Divergence(bits, floor, excess, bits_mean, floor_mean, excess_mean)


def information(routes: Routes, seed: int = 0, *, permutations: int = 200) -> Information:
    """I(e; domain) = H(mean of q_d) - mean of H(q_d), against domains dealt to sequences anew."""
    present, domain = np.unique(routes.sequence_domain, return_inverse=True)
    counts = routes.sequence_counts.reshape(routes.sequences, -1).astype(np.float64)
    shape = (len(present), routes.depth, routes.n_experts)

    def bits_of(dealt_domain: np.ndarray) -> Float64Array:
        return _information_bits((membership(dealt_domain, len(present)) @ counts).reshape(shape))

    random = np.random.default_rng(seed)
    observed = bits_of(domain)
    null = np.stack([bits_of(dealt(domain, random)) for _ in range(permutations)])
    mean = null.mean(0)
    return Information(
        bits=observed,
        null_mean=mean,
        null_high=np.quantile(null, 0.95, axis=0),
        excess=np.maximum(observed - mean, 0),
        p=p_value(observed, null),
        most=float(np.log2(len(present))),
    )


def _information_bits(counts: Float64Array) -> Float64Array:
    """I(e; d) of counts (D, ..., E), all D equally likely."""
    share = shares(counts)
    return np.asarray(np.maximum(entropy_bits(share.mean(0)) - entropy_bits(share).mean(0), 0))


def _split_half(routes: Routes, splits: int, random: np.random.Generator) -> Float64Array:
    """(D, L) mean divergence of halves of each domain; NaN for a domain of less than two sequences."""
    domains = len(routes.domains)
    counts = routes.sequence_counts.reshape(routes.sequences, -1).astype(np.float64)
    members = membership(routes.sequence_domain, domains)
    total = np.zeros((domains, routes.depth))
    for _ in range(splits):
        first = halves(routes.sequence_domain, domains, random)
        a, b = (
            shares((members * half @ counts).reshape(domains, routes.depth, routes.n_experts))
            for half in (first, ~first)
        )
        total += jensen_shannon_bits(a, b)
    return total / splits


def _mean_of_known(values: Float64Array) -> Float64Array:
    """Mean over the first axis of what is not NaN; NaN if nothing is."""
    known = ~np.isnan(values)
    count = known.sum(0)
    total = np.where(known, values, 0).sum(0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
