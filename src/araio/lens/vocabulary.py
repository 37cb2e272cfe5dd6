"""How much experts follow the token itself, and how much its domain beyond that.

An expert that serves a domain may merely serve its words. So the information that a choice has about the
token stands beside what it has about the domain once the token is known. Both are larger in few tokens than
in many: each has a null, the one with tokens dealt anew to positions, the other with domains dealt anew to
sequences. Needs token ids: a trace without text is refused. Read `specialisation.py` for domains alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from araio.errors import TraceError
from araio.lens.load import entropy_bits, shares
from araio.lens.resampling import dealt
from araio.lens.result import Result
from araio.lens.routes import Float64Array, Int64Array, Routes

__all__ = ["LEAST_OCCURRENCES", "Vocabulary", "vocabulary"]

LEAST_OCCURRENCES = 10
"""Tokens of the vocabulary that occur less often are left out (OLMoE, arXiv 2409.02060)."""

Which = Literal["input", "next"]


@dataclass(frozen=True)
class Vocabulary(Result):
    """How experts follow tokens, L layers; NaN where nothing occurs often enough.

    which             "input": the token that is read; "next": the one that follows it in the text
    kinds             different tokens that occur often enough
    covered           share of all tokens that are of these kinds
    share             (L,) share of a kind's occurrences that chose the expert it chooses most, mean of kinds
    share_null        (L,) the same with tokens dealt anew to positions
    token_bits        (L,) I(e; token)
    token_null        (L,) the same with tokens dealt anew to positions
    domain_bits       (L,) I(e; domain | token), over kinds that occur often enough in two domains or more
    domain_null       (L,) the same with domains dealt anew to sequences
    domain_kinds      kinds that this counts
    """

    which: str
    kinds: int
    covered: float
    share: Float64Array
    share_null: Float64Array
    token_bits: Float64Array
    token_null: Float64Array
    domain_bits: Float64Array
    domain_null: Float64Array
    domain_kinds: int


def vocabulary(
    routes: Routes,
    seed: int = 0,
    *,
    which: Which = "input",
    least: int = LEAST_OCCURRENCES,
    permutations: int = 5,
) -> Vocabulary:
    """How experts follow the tokens that occur at least `least` times.

    Raises:
        TraceError: the trace has no token ids.
    """
    tokens = _tokens(routes, which)
    random = np.random.default_rng(seed)
    often, kind, occurs = np.unique(tokens, return_inverse=True, return_counts=True)
    is_kept = (often >= 0) & (occurs >= least)
    place = np.where(is_kept, np.cumsum(is_kept) - 1, -1)[kind]
    rows = place >= 0
    kinds = int(np.count_nonzero(is_kept))
    cut = routes.select(rows)
    observed = _of_tokens(cut, place[rows], kinds)
    null = np.mean(
        [_of_tokens(cut, random.permutation(place[rows]), kinds) for _ in range(permutations)], axis=0
    )
    domain_kinds, domain, domain_null = _of_domains(cut, place[rows], least, permutations, random)
    return Vocabulary(
        which=which,
        kinds=kinds,
        covered=float(rows.mean()),
        share=observed[0],
        share_null=null[0],
        token_bits=observed[1],
        token_null=null[1],
        domain_bits=domain,
        domain_null=domain_null,
        domain_kinds=domain_kinds,
    )


def _tokens(routes: Routes, which: Which) -> Int64Array:
    """(T,) the token that counts for each row; -1 for none."""
    if routes.token_id is None:
        raise TraceError("the trace has no token ids; record it with text to see what experts do with words")
    if which == "input":
        return routes.token_id
    follows = (np.diff(routes.seq) == 0) & (np.diff(routes.position) == 1)
    return np.append(np.where(follows, routes.token_id[1:], -1), -1)


def _of_tokens(routes: Routes, kind: Int64Array, kinds: int) -> Float64Array:
    """(2, L) the share of the expert chosen most, and I(e; token)."""
    if kinds == 0:
        return np.full((2, routes.depth), np.nan)
    occurs = np.bincount(kind, minlength=kinds)
    result = np.empty((2, routes.depth))
    for layer in range(routes.depth):
        counts = _counts(routes, layer, kind, kinds)
        result[0, layer] = np.mean(counts.max(1) / occurs)
        result[1, layer] = _information(counts, occurs)
    return result


def _of_domains(
    routes: Routes, kind: Int64Array, least: int, permutations: int, random: np.random.Generator
) -> tuple[int, Float64Array, Float64Array]:
    """How many kinds count, (L,) I(e; domain | token), and its mean over domains dealt anew to sequences.

    Which kinds count is decided by the true domains, and stays, so that observed and null are of the same
    tokens.
    """
    domains = len(routes.domains)
    nothing = np.full(routes.depth, np.nan)
    occurs = np.bincount(kind * domains + routes.domain, minlength=(int(kind.max(initial=-1)) + 1) * domains)
    is_kept = np.count_nonzero(occurs.reshape(-1, domains) >= least, axis=1) >= 2
    kinds = int(np.count_nonzero(is_kept))
    if kinds == 0:
        return 0, nothing, nothing
    rows = is_kept[kind]
    place = (np.cumsum(is_kept) - 1)[kind[rows]]
    by_sequence = routes.sequence_domain
    sequence = routes.seq[rows]
    cut = routes.select(rows)

    def bits(domain_of_sequence: Int64Array) -> Float64Array:
        cell = place * domains + domain_of_sequence[sequence]
        occurs = np.bincount(cell, minlength=kinds * domains).reshape(kinds, domains)
        result = np.empty(cut.depth)
        for layer in range(cut.depth):
            counts = _counts(cut, layer, cell, kinds * domains).reshape(kinds, domains, -1)
            per_kind = [_information(*pair) for pair in zip(counts, occurs, strict=True)]
            result[layer] = np.average(per_kind, weights=occurs.sum(1))
        return result

    null = np.mean([bits(dealt(by_sequence, random)) for _ in range(permutations)], axis=0)
    return kinds, bits(by_sequence), null


def _counts(routes: Routes, layer: int, cell: Int64Array, cells: int) -> Int64Array:
    """(cells, E) how often the tokens of each cell chose each expert."""
    places = cell[:, None] * routes.n_experts + routes.experts[:, layer]
    return np.bincount(places.ravel(), minlength=cells * routes.n_experts).reshape(cells, -1)


def _information(counts: Int64Array, occurs: Int64Array) -> float:
    """I(e; cell) in bits of counts (cells, E), cells as likely as they occur."""
    present = occurs > 0
    share, weight = shares(counts[present]), occurs[present] / occurs.sum()
    return float(entropy_bits(weight @ share) - weight @ entropy_bits(share))
