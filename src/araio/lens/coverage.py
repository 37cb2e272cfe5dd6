"""What a set of kept experts covers: choices, weight, and tokens whose experts are all inside.

The three are different numbers, and the first is the kindest. Half of the experts may cover four choices of
five and yet hold all K experts of one token in three, and hardly ever those of all its layers: running on a
subset changes almost every token, and what that costs is measured by `araio profile eval`, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from araio.lens.load import shares
from araio.lens.resampling import halves, membership
from araio.lens.result import Result
from araio.lens.routes import BoolArray, Float64Array, Int64Array, Routes

__all__ = ["Coverage", "CoverageCurve", "coverage", "coverage_curve", "most_used"]


@dataclass(frozen=True)
class Coverage(Result):
    """What kept experts cover, D domains, L layers; NaN for a domain without tokens.

    kept        (D, L) how many experts are kept
    choices     (D, L) share of choices that are kept experts
    weight      (D, L) share of the weight of all choices; NaN where weights are unknown
    all_inside  (D, L) share of tokens whose K experts are all kept
    whole_path  (D,) share of tokens whose experts are all kept in every layer
    """

    kept: Int64Array
    choices: Float64Array
    weight: Float64Array
    all_inside: Float64Array
    whole_path: Float64Array


@dataclass(frozen=True)
class CoverageCurve(Result):
    """How much of one domain's choices the most used experts of another cover, C sizes, mean over layers.

    kept     (C,) experts kept in each layer
    covered  (C, D, D) [size, domain whose experts are kept, domain whose choices are counted]. The sets come
             from half of the sequences and are tried on the other half; NaN for domains of one sequence
    """

    kept: Int64Array
    covered: Float64Array


def coverage(routes: Routes, kept: BoolArray) -> Coverage:
    """What `kept` covers of each domain: true for what is kept, (L, E), or (D, L, E) for sets of its own."""
    domains = len(routes.domains)
    kept = np.broadcast_to(kept, routes.counts.shape)
    tokens = routes.domain_tokens.astype(np.float64)
    inside = np.empty((domains, routes.depth))
    is_whole = np.ones(routes.tokens, bool)
    for layer in range(routes.depth):
        is_inside = kept[routes.domain[:, None], layer, routes.experts[:, layer]].all(-1)
        is_whole &= is_inside
        inside[:, layer] = np.bincount(routes.domain, is_inside, minlength=domains)
    mass = routes.gate_mass
    with np.errstate(invalid="ignore"):
        return Coverage(
            kept=np.count_nonzero(kept, axis=2),
            choices=(shares(routes.counts) * kept).sum(-1),
            weight=(np.full(inside.shape, np.nan) if mass is None else (mass * kept).sum(-1) / mass.sum(-1)),
            all_inside=inside / tokens[:, None],
            whole_path=np.bincount(routes.domain, is_whole, minlength=domains) / tokens,
        )


def most_used(counts: Int64Array | Float64Array, size: int) -> BoolArray:
    """(..., E) true for the `size` experts with the highest counts (..., E); of equal ones the first."""
    kept = np.zeros(counts.shape, bool)
    order = np.argsort(-counts, axis=-1, kind="stable")
    np.put_along_axis(kept, order[..., :size], values=True, axis=-1)
    return kept


def coverage_curve(
    routes: Routes, sizes: Sequence[int] | None = None, seed: int = 0, *, splits: int = 4
) -> CoverageCurve:
    """The coverage of sets of these sizes, by default eighths of E, over so many random halvings."""
    experts, domains = routes.n_experts, len(routes.domains)
    sizes = sorted({max(1, experts * part // 8) for part in range(1, 9)}) if sizes is None else sizes
    members = membership(routes.sequence_domain, domains)
    counts = routes.sequence_counts.reshape(routes.sequences, -1).astype(np.float64)
    random = np.random.default_rng(seed)
    covered = np.zeros((len(sizes), domains, domains))
    for _ in range(splits):
        first = halves(routes.sequence_domain, domains, random)
        chosen, tried = (
            (members * half @ counts).reshape(domains, routes.depth, experts) for half in (first, ~first)
        )
        share = shares(tried)
        for place, size in enumerate(sizes):
            kept = most_used(chosen, size)
            covered[place] += np.einsum("ale,ble->ab", kept, share) / routes.depth
    is_single = np.bincount(routes.sequence_domain, minlength=domains) < 2
    covered[:, is_single] = covered[:, :, is_single] = np.nan
    return CoverageCurve(np.array(sizes), covered / splits)
