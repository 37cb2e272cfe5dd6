"""How soon the experts of a token are used again by the tokens after it.

Overlap with earlier tokens of the same sequence, the share of choices that a window of tokens has seen, and
how many experts a run of tokens needs. Beside them stand two baselines: tokens drawn independently with their
domain's loads, and uniform routing. Only what is above the first is locality; the rest is skew. No figure
reaches over the border of two sequences. Read `caching.py` for what a cache makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from araio.lens.result import Result
from araio.lens.routes import BoolArray, Float64Array, Int64Array, IntArray, Routes

__all__ = ["LAGS", "RUNS", "WINDOWS", "Reuse", "reuse"]

LAGS = (1, 2, 4, 8, 16, 32, 64)
WINDOWS = (1, 2, 4, 8, 16, 32, 64)
RUNS = (2, 3, 4, 5, 8, 16, 32, 64)


@dataclass(frozen=True)
class Reuse(Result):
    """Reuse of experts within sequences, L layers. NaN where no sequence is long enough.

    lags             (G,) distances in tokens
    overlap          (L, G) share of a token's K experts that the token so far before it chose as well
    overlap_same     (L,) what independent tokens of the domain's loads would have: sum of p^2 / K, p = n / T,
                     mean over domains by their tokens
    overlap_uniform  K / E
    previous         (L, K + 1) share of tokens that share 0, 1 .. K experts with the one before
    windows          (V,) lengths in tokens
    within           (L, V) share of choices that one of so many tokens before made too; first tokens left out
    runs             (M,) lengths in tokens
    union            (L, M) different experts that so many consecutive tokens need, mean
    union_uniform    (M,) E (1 - (1 - K / E)^M)
    per_sequence     (L,) different experts that a whole sequence needs, mean
    """

    lags: Int64Array
    overlap: Float64Array
    overlap_same: Float64Array
    overlap_uniform: float
    previous: Float64Array
    windows: Int64Array
    within: Float64Array
    runs: Int64Array
    union: Float64Array
    union_uniform: Float64Array
    per_sequence: Float64Array


def reuse(
    routes: Routes,
    lags: Sequence[int] = LAGS,
    windows: Sequence[int] = WINDOWS,
    runs: Sequence[int] = RUNS,
) -> Reuse:
    """How soon experts are used again. Where positions leave a gap, nothing is compared across it."""
    depth, top_k = routes.depth, routes.top_k
    overlap, within = np.empty((depth, len(lags))), np.empty((depth, len(windows)))
    union, previous = np.empty((depth, len(runs))), np.empty((depth, top_k + 1))
    clock = _clock(routes, max(1, *lags, *windows))
    for layer in range(depth):
        ids = routes.experts[:, layer].astype(np.int64)
        shared = _shared(ids, routes.n_experts, clock, 1)
        previous[layer] = _mean_or_nan(shared[:, None] == np.arange(top_k + 1))
        overlap[layer] = [_mean_or_nan(_shared(ids, routes.n_experts, clock, lag)) / top_k for lag in lags]
        since = _since_last_use(ids, clock)[_has_previous(clock)].ravel()
        within[layer] = [_mean_or_nan((since <= window).astype(np.float64)) for window in windows]
        union[layer] = [_union(ids, clock, run) for run in runs]
    rates = routes.counts / np.maximum(routes.domain_tokens, 1)[:, None, None]
    share = top_k / routes.n_experts
    return Reuse(
        lags=np.array(lags),
        overlap=overlap,
        overlap_same=np.average((rates**2).sum(-1), axis=0, weights=routes.domain_tokens) / top_k,
        overlap_uniform=share,
        previous=previous,
        windows=np.array(windows),
        within=within,
        runs=np.array(runs),
        union=union,
        union_uniform=routes.n_experts * (1 - (1 - share) ** np.array(runs)),
        per_sequence=np.count_nonzero(routes.sequence_counts, axis=2).mean(0),
    )


def _clock(routes: Routes, reach: int) -> Int64Array:
    """(T,) time of each token, rising; those of two sequences are farther apart than `reach`."""
    first = np.searchsorted(routes.seq, np.arange(routes.sequences))
    last = np.append(first[1:], routes.tokens) - 1
    return routes.position + routes.seq * (int(routes.position[last].max()) + reach + 1)


def _has_previous(clock: Int64Array) -> BoolArray:
    return np.asarray(np.diff(clock, prepend=clock[0] - 2) == 1)


def _shared(ids: Int64Array, experts: int, clock: Int64Array, lag: int) -> Int64Array:
    """How many of its experts each token shares with the one `lag` before; tokens without one left out."""
    before = np.searchsorted(clock, clock - lag)
    now = np.flatnonzero(clock[before] == clock - lag)
    chosen = np.zeros((len(ids), experts), bool)
    np.put_along_axis(chosen, ids, values=True, axis=1)
    return np.asarray(np.count_nonzero(chosen[before[now, None], ids[now]], axis=1))


def _since_last_use(ids: Int64Array, clock: Int64Array) -> Int64Array:
    """(T, K) tokens since each choice was last made; more than any window if it was not in this sequence."""
    keys = ids.ravel()
    times = np.repeat(clock, ids.shape[1])
    order = np.argsort(keys, kind="stable")
    since = np.full(len(keys), np.iinfo(np.int64).max)
    is_same = np.diff(keys[order]) == 0
    since[order[1:][is_same]] = np.diff(times[order])[is_same]
    return since.reshape(ids.shape)


def _union(ids: Int64Array, clock: Int64Array, run: int) -> float:
    """Mean number of different experts of runs of so many tokens of a sequence, which do not overlap."""
    begins = np.flatnonzero(~_has_previous(clock))  # of stretches without a gap
    lengths = np.diff(np.append(begins, len(clock)))
    place = np.arange(len(ids)) - np.repeat(begins, lengths)
    is_whole = place < np.repeat(lengths // run * run, lengths)
    rows = ids[is_whole].reshape(-1, run * ids.shape[1])
    if not len(rows):
        return float("nan")
    return float(1 + np.count_nonzero(np.diff(np.sort(rows, axis=1), axis=1), axis=1).mean())


def _mean_or_nan(values: IntArray | Float64Array) -> Float64Array:
    return np.asarray(values.mean(0) if len(values) else np.full(values.shape[1:], np.nan))
