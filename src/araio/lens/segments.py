"""How much of a stretch of text a few experts would serve, were they chosen for it with hindsight.

The segment routing best performance of arXiv 2505.16056: for each stretch of consecutive tokens the fixed
group of experts that covers most of its choices. Beside it stands the group that is best for the whole text,
which is what a profile can be: what lies between the two is what changing the group from stretch to stretch
would gain. Read `caching.py` for rules that change it as they go, without hindsight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from araio.lens.result import Result
from araio.lens.routes import Float64Array, Int64Array, Routes

__all__ = ["LENGTHS", "Segments", "segments"]

LENGTHS = (16, 64, 256)


@dataclass(frozen=True)
class Segments(Result):
    """Share of choices that groups of experts cover, L layers. NaN where no sequence is as long as a stretch.

    lengths  (S,) of stretches, in tokens; they do not overlap and do not reach over the end of a sequence
    sizes    (C,) of groups: K, 2 K, 4 K ... experts, as far as there are
    covered  (L, S, C) by the best group of each stretch, mean
    whole    (L, C) by the best group of all tokens
    """

    lengths: Int64Array
    sizes: Int64Array
    covered: Float64Array
    whole: Float64Array


def segments(routes: Routes, lengths: Sequence[int] = LENGTHS) -> Segments:
    """What the best groups cover, for every length of stretch and size of group."""
    sizes = [routes.top_k]
    while 2 * sizes[-1] <= routes.n_experts:
        sizes.append(2 * sizes[-1])
    covered = np.full((routes.depth, len(lengths), len(sizes)), np.nan)
    for place, length in enumerate(lengths):
        rows = _whole_stretches(routes, length)
        for layer in range(routes.depth if len(rows) else 0):
            covered[layer, place] = _covered(routes.experts[rows, layer], routes.n_experts, sizes)
    return Segments(
        lengths=np.array(lengths),
        sizes=np.array(sizes),
        covered=covered,
        whole=_best(routes.counts.sum(0), sizes) / (routes.tokens * routes.top_k),
    )


def _whole_stretches(routes: Routes, length: int) -> Int64Array:
    """(N, length) rows of each stretch."""
    starts = np.searchsorted(routes.seq, np.arange(routes.sequences))
    first = [
        np.arange(start, start + tokens - length + 1, length)
        for start, tokens in zip(starts.tolist(), routes.sequence_tokens.tolist(), strict=True)
    ]
    return np.concatenate(first)[:, None].astype(np.int64) + np.arange(length)


def _covered(ids: Int64Array, experts: int, sizes: Sequence[int]) -> Float64Array:
    """(C,) of stretches with ids (N, length, K)."""
    stretches = len(ids)
    keys = ids.reshape(stretches, -1).astype(np.int64) + np.arange(stretches)[:, None] * experts
    counts = np.bincount(keys.ravel(), minlength=stretches * experts).reshape(stretches, experts)
    return np.asarray((_best(counts, sizes) / keys.shape[1]).mean(0))


def _best(counts: Int64Array, sizes: Sequence[int]) -> Float64Array:
    """(..., C) sum of the largest so many of counts (..., E)."""
    falling = np.cumsum(-np.sort(-counts, axis=-1), axis=-1)
    return np.asarray(falling[..., np.array(sizes) - 1], np.float64)
