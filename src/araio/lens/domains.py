"""Which experts serve a domain more than others do, and how sure that is.

A domain's rate of using an expert is compared with the mean rate of the other domains. The unit of chance is
a sequence, never a token, and all experts of all layers are tested together, so that of those which are named
no more than a stated share is expected to be named by chance. Differences can be sure and small: read the
ratio, not only the verdict. Refuses nothing; without two domains of two sequences each nobody is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from araio.lens.resampling import dealt, drawn, false_discovery, membership, pooled_p_value
from araio.lens.result import LEFT_OUT, Result
from araio.lens.routes import Float64Array, Int64Array, Routes
from araio.traces.trace import Trace

__all__ = ["DomainUse", "ServingExpert", "adjusted_p", "domain_use", "domains_of_experts", "strongest"]

FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class DomainUse(Result):
    """How much each domain uses each expert, D domains, L layers, E experts.

    relative   (D, L, E) share of the domain's tokens that chose the expert, over K / E, which uniform routing
               has (OLMoE, arXiv 2409.02060, domain specialisation)
    low, high  (D, L, E) 95 % bootstrap interval of `relative`, sequences drawn again
    ratio      (D, L, E) the domain's rate over the mean rate of the others, half a choice added to each
               count; NaN for a domain without tokens, which counts for none of the others either
    difference (D, L, E) the share of the domain's tokens that chose the expert minus the mean share of the
               others' (risk difference), counted in the same way
    npmi       (D, L, E) log2(p(d, e) / (p(d) p(e))) / -log2 p(d, e), normalised pointwise mutual information
               (Bouma 2009) of the domain, all equally likely, and the choice of the expert: 1 if one is never
               without the other, 0 if they know nothing of each other, -1 if never together
    adjusted_p (D, L, E) smallest rate of false discoveries at which the expert counts as used more by this
               domain than by the mean of the others; NaN where that cannot be tested
    serves     (L, E) the domain that uses the expert most, if that is significant; else -1
    served_by  (D, L) how many experts that makes
    rate       of false discoveries that `serves` allows
    """

    relative: Float64Array
    low: Float64Array = field(metadata=LEFT_OUT)
    high: Float64Array = field(metadata=LEFT_OUT)
    ratio: Float64Array = field(metadata=LEFT_OUT)
    difference: Float64Array = field(metadata=LEFT_OUT)
    npmi: Float64Array = field(metadata=LEFT_OUT)
    adjusted_p: Float64Array = field(metadata=LEFT_OUT)
    serves: Int64Array
    served_by: Int64Array
    rate: float


def domains_of_experts(trace: Trace, seed: int = 0) -> list[list[int | None]]:
    """For each layer and expert the domain that it serves significantly more than others, by index, or None.

    5 % of those that are named may be false discoveries. A trace of one domain, or of too few sequences,
    names none.

    Raises:
        TraceError: the trace has no token with routes.
    """
    routes = Routes.of(trace)
    serves = _serves(adjusted_p(routes, seed), routes, FALSE_DISCOVERY_RATE)
    return [[None if domain < 0 else int(domain) for domain in layer] for layer in serves]


def domain_use(
    routes: Routes, seed: int = 0, *, samples: int = 400, rate: float = FALSE_DISCOVERY_RATE
) -> DomainUse:
    """How much each domain uses each expert, with intervals and what is significant.

    samples  of the bootstrap
    rate     of false discoveries among what is named
    """
    counts, choices = routes.counts, routes.domain_tokens * routes.top_k
    scale = np.divide(routes.n_experts, choices, out=np.full(len(choices), np.nan), where=choices > 0)
    low, high = _intervals(routes, samples, np.random.default_rng(seed))
    p = adjusted_p(routes, seed)
    serves = _serves(p, routes, rate)
    rates = _smoothed(routes)
    return DomainUse(
        relative=counts * scale[:, None, None],
        low=low,
        high=high,
        ratio=_ratios(rates),
        difference=rates - _others(rates),
        npmi=_npmi(rates),
        adjusted_p=p,
        serves=serves,
        served_by=np.stack([np.count_nonzero(serves == index, axis=1) for index in range(len(counts))]),
        rate=rate,
    )


def adjusted_p(routes: Routes, seed: int = 0, *, permutations: int = 200) -> Float64Array:
    """(D, L, E) adjusted p-values of using an expert more than the mean of the other domains does.

    The statistic is the difference of rates over its standard error. What chance makes of it is seen by
    dealing the domains to sequences anew; all experts of all layers share that null, which the standard error
    puts on one scale, so that few permutations give small p-values (SAM: Tusher, Tibshirani and Chu 2001,
    PNAS 98).
    """
    sequences = np.bincount(routes.sequence_domain, minlength=len(routes.domains))
    testable = sequences >= 2  # one sequence has no variance
    tested = int(np.count_nonzero(testable))
    p = np.full((len(routes.domains), routes.depth * routes.n_experts), np.nan)
    if tested >= 2:
        inside = testable[routes.sequence_domain]
        _, domain = np.unique(routes.sequence_domain[inside], return_inverse=True)
        counts = routes.sequence_counts[inside].reshape(len(domain), -1).astype(np.float64)
        sums = _Sums(counts, counts**2, (routes.sequence_tokens[inside] * routes.top_k).astype(np.float64))
        random = np.random.default_rng(seed)
        nulls = np.stack([sums.contrasts(dealt(domain, random), tested) for _ in range(permutations)], axis=1)
        observed = sums.contrasts(domain, tested)
        p[testable] = [pooled_p_value(*pair) for pair in zip(observed, nulls, strict=True)]
    return false_discovery(p).reshape(routes.counts.shape)


class _Sums(NamedTuple):
    """What S sequences counted, (S, N) and squared, and how many choices (S,) each made in a layer."""

    counts: Float64Array
    squares: Float64Array
    choices: Float64Array

    def contrasts(self, domain: Int64Array, domains: int) -> Float64Array:
        """(D, N) each domain's rate minus the mean of the others', over its standard error.

        A rate is a ratio of sums over sequences, with the variance of a ratio estimate (Cochran, "Sampling
        techniques", section 2.11): sum of (n_s - q m_s)^2 over (sum of m_s)^2, times S / (S - 1).
        """
        members = membership(domain, domains)
        total, sequences = (members @ self.choices)[:, None], members.sum(1, keepdims=True)
        rates = members @ self.counts / total
        crossed = (members * self.choices) @ self.counts
        squared = members @ self.squares - 2 * rates * crossed
        squared += rates**2 * (members @ self.choices**2)[:, None]
        variances = np.maximum(squared, 0) / total**2 * sequences / (sequences - 1)
        others = domains - 1
        differences = rates - (rates.sum(0) - rates) / others
        errors = np.sqrt(variances + (variances.sum(0) - variances) / others**2)
        # Of experts that nobody used nothing differs; of rounding there may be a difference without an error.
        differences[np.abs(differences) < 1e-12] = 0
        with np.errstate(divide="ignore"):
            return np.asarray(
                np.divide(differences, errors, out=np.zeros_like(errors), where=differences != 0)
            )


def _serves(p: Float64Array, routes: Routes, rate: float) -> Int64Array:
    """(L, E) the domain with the highest rate of using each expert if that is significant, else -1."""
    choices = np.maximum(routes.domain_tokens, 1)[:, None, None]
    highest = (routes.counts / choices).argmax(0)
    is_sure = np.take_along_axis(np.nan_to_num(p, nan=1.0), highest[None], axis=0)[0] <= rate
    return np.asarray(np.where(is_sure, highest, -1))


def _intervals(routes: Routes, samples: int, random: np.random.Generator) -> Float64Array:
    """(2, D, L, E) both ends of the bootstrap interval of `relative`; NaN for domains of one sequence."""
    ends = np.full((2, *routes.counts.shape), np.nan)
    for index in range(len(routes.domains)):
        members = routes.sequence_domain == index
        sequences = int(np.count_nonzero(members))
        if sequences < 2:
            continue
        weights = drawn(sequences, samples, random)
        counts = weights @ routes.sequence_counts[members].reshape(sequences, -1).astype(np.float64)
        choices = weights @ routes.sequence_tokens[members] * routes.top_k
        low_high = np.quantile(counts / choices[:, None], (0.025, 0.975), axis=0)
        ends[:, index] = low_high.reshape(ends[:, index].shape) * routes.n_experts
    return ends


def _smoothed(routes: Routes) -> Float64Array:
    """(D, L, E) share of tokens that chose the expert, half a choice added; NaN of domains without tokens."""
    tokens = routes.domain_tokens + routes.n_experts / (2 * routes.top_k)
    rates = np.asarray((routes.counts + 0.5) / tokens[:, None, None])
    rates[routes.domain_tokens == 0] = np.nan
    return rates


def _others(rates: Float64Array) -> Float64Array:
    """(D, L, E) mean rate of the other domains that have tokens; NaN where there is none."""
    others = np.count_nonzero(~np.isnan(rates[:, 0, 0])) - 1
    return np.asarray((np.nansum(rates, axis=0) - rates) / (others if others > 0 else np.nan))


def _ratios(rates: Float64Array) -> Float64Array:
    return np.asarray(rates / _others(rates))


def _npmi(rates: Float64Array) -> Float64Array:
    domains = np.count_nonzero(~np.isnan(rates[:, 0, 0]))
    if domains < 2:
        return np.full(rates.shape, np.nan)
    chosen = np.nansum(rates, axis=0) / domains
    # Where all choose an expert always, both logarithms are 0, or nearly: it says nothing of the domain.
    return np.asarray(np.log2(rates / chosen) / -np.log2(rates / domains))


@dataclass(frozen=True)
class ServingExpert(Result):
    """An expert that serves a domain: numbers as in `DomainUse`, the layer by its number in the model."""

    layer: int
    expert: int
    domain: int
    relative: float
    low: float
    high: float
    ratio: float
    difference: float
    npmi: float
    adjusted_p: float


def strongest(use: DomainUse, layers: tuple[int, ...], most: int = 20) -> tuple[ServingExpert, ...]:
    """Of each domain the experts that serve it furthest ahead of any other, at most so many, best first.

    By the difference, not the ratio, which is largest where nobody uses an expert much.
    """
    found = []
    for domain in range(len(use.relative)):
        places = np.argwhere(use.serves == domain)
        others = np.delete(use.relative, domain, axis=0)
        ahead = use.relative[domain] - np.fmax.reduce(others, axis=0, initial=0.0)  # NaN has no tokens
        order = np.argsort(-ahead[tuple(places.T)], kind="stable")[:most]
        for layer, expert in places[order].tolist():
            arrays = (use.relative, use.low, use.high, use.ratio, use.difference, use.npmi, use.adjusted_p)
            numbers = (float(array[domain, layer, expert]) for array in arrays)
            found.append(ServingExpert(layers[layer], expert, domain, *numbers))
    return tuple(found)
