"""Balance on shorter scales than a whole trace: over windows of tokens, and over ranks that share experts.

Experts may be even over a day and uneven within every batch, and it is the batch that waits for its busiest
expert. `load.py` has the first, this file the second: the overload of windows of consecutive tokens, beside
the same tokens in random order, since few tokens are uneven by chance alone; and the overload of ranks, each
of which holds as many consecutive experts, as expert parallelism lays them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from araio.lens.result import Result
from araio.lens.routes import Float64Array, Int64Array, IntArray, Routes

__all__ = ["WINDOWS", "Balance", "balance"]

WINDOWS = (16, 64, 256, 1024, 4096)


@dataclass(frozen=True)
class Balance(Result):
    """Overload of windows and of ranks, L layers. NaN where the text is shorter than a window.

    windows   (V,) lengths in tokens
    overload  (L, V) load of the busiest expert over the mean load, minus 1 (MaxVio), mean of the windows
    shuffled  (L, V) the same of the tokens in random order
    ranks     (R,) numbers of ranks that share the experts evenly, 2 to E
    by_rank   (L, R) load of the busiest rank over the mean rank's, minus 1, over all tokens
    """

    windows: Int64Array
    overload: Float64Array
    shuffled: Float64Array
    ranks: Int64Array
    by_rank: Float64Array


def balance(routes: Routes, seed: int = 0, windows: Sequence[int] = WINDOWS) -> Balance:
    """Overload of windows that follow one another, sequence after sequence, and of ranks."""
    mixed = np.random.default_rng(seed).permutation(routes.experts)
    ranks = [ranks for ranks in range(2, routes.n_experts + 1) if routes.n_experts % ranks == 0]
    counts = routes.counts.sum(0)
    by_rank = [_overload(counts.reshape(routes.depth, count, -1).sum(-1)) for count in ranks]
    return Balance(
        windows=np.array(windows),
        overload=_of_windows(routes.experts, routes.n_experts, windows),
        shuffled=_of_windows(mixed, routes.n_experts, windows),
        ranks=np.array(ranks, np.int64),
        by_rank=np.stack(by_rank, axis=1) if ranks else np.empty((routes.depth, 0)),
    )


def _of_windows(ids: IntArray, experts: int, windows: Sequence[int]) -> Float64Array:
    tokens, depth, _ = ids.shape
    found = np.full((depth, len(windows)), np.nan)
    for place, window in enumerate(windows):
        whole = tokens // window
        for layer in range(depth if whole else 0):
            rows = ids[: whole * window, layer].reshape(whole, -1).astype(np.int64)
            keys = rows + np.arange(whole)[:, None] * experts
            counts = np.bincount(keys.ravel(), minlength=whole * experts).reshape(whole, experts)
            found[layer, place] = _overload(counts).mean()
    return found


def _overload(counts: Int64Array) -> Float64Array:
    """Busiest over mean, minus 1, of the last axis."""
    return np.asarray(counts.max(-1) / counts.mean(-1) - 1)
