"""What chance alone would show: sequences dealt anew to domains, halved, or drawn again.

Tokens of one text are alike: they share a subject, names and a style, so a thousand tokens of one text are
far less than a thousand observations. Whatever is resampled here is therefore whole sequences. Everything is
drawn from a seed. Read `specialisation.py` and `domains.py` for what is done with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from araio.lens.routes import BoolArray, Float64Array, Int64Array

__all__ = [
    "MIN_SEQUENCES",
    "dealt",
    "drawn",
    "false_discovery",
    "halves",
    "membership",
    "p_value",
    "pooled_p_value",
]

MIN_SEQUENCES = 8
"""Sequences of a domain below which what chance can do is hardly known; summaries warn."""

Generator = np.random.Generator


def membership(domain: Int64Array, domains: int) -> Float64Array:
    """(D, S) 1 where a sequence is of a domain: times what sequences counted, it gives domains' counts."""
    return np.asarray(domain == np.arange(domains)[:, None], np.float64)


def dealt(domain: Int64Array, random: Generator) -> Int64Array:
    """(S,) domains dealt anew to sequences: each keeps its number of sequences."""
    return random.permutation(domain)


def halves(domain: Int64Array, domains: int, random: Generator) -> BoolArray:
    """(S,) half of each domain's sequences, at random; of an odd number the larger half or the smaller."""
    first = np.zeros(len(domain), bool)
    for index in range(domains):
        members = random.permutation(np.flatnonzero(domain == index))
        first[members[: (len(members) + int(random.integers(2))) // 2]] = True
    return first


def drawn(sequences: int, samples: int, random: Generator) -> Float64Array:
    """(samples, S) how often each sequence is in a bootstrap sample of as many (Efron 1979)."""
    chances = np.full(sequences, 1 / sequences)
    return random.multinomial(sequences, chances, samples).astype(np.float64)


def p_value(observed: npt.ArrayLike, null: Float64Array) -> Float64Array:
    """(1 + how many of the null are as large) / (1 + how many there are), over the null's first axis.

    Never 0: what was observed is one of the arrangements that chance could have made (Phipson and Smyth 2010,
    "Permutation p-values should never be zero").
    """
    # Sums in another order differ in their last digits, and equal arrangements must count as equal.
    as_large = null >= np.asarray(observed) * (1 - 1e-12)
    return np.asarray((1 + np.count_nonzero(as_large, axis=0)) / (1 + len(null)))


def pooled_p_value(observed: Float64Array, null: Float64Array) -> Float64Array:
    """The same, against one null that all tests share: statistics (N,), their nulls (permutations, N)."""
    rising_null = np.sort(null, axis=None)
    # As above; statistics may be negative.
    bar = observed - 1e-9 * np.abs(np.where(np.isinf(observed), 0, observed))
    as_large = len(rising_null) - np.searchsorted(rising_null, bar, side="left")
    return np.asarray((1 + as_large) / (1 + len(rising_null)))


def false_discovery(p: Float64Array) -> Float64Array:
    """The smallest rate of false discoveries at which each test is one (Benjamini and Hochberg 1995).

    Over all numbers of the array together; NaN stands for no test and stays.
    """
    adjusted = np.full(p.size, np.nan)
    tested = np.flatnonzero(~np.isnan(p.ravel()))
    rising = tested[np.argsort(p.ravel()[tested], kind="stable")]
    scaled = p.ravel()[rising] * len(rising) / np.arange(1, len(rising) + 1)
    adjusted[rising] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return adjusted.reshape(p.shape)
