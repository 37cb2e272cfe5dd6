"""`CountedColumns`: a trace of counts alone, where nobody kept which token chose what."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import CacheEvents, Phase
from araio.traces.counts import Counts
from araio.traces.header import TraceHeader

__all__ = ["CountedColumns", "counts_of_layers"]


class CountedColumns:
    """No column is there; the tokens are as many as the counts say.

    Raises TraceError for counts of no tokens, or not of K experts in every layer for each.
    """

    def __init__(self, header: TraceHeader, counts: Counts, where: str) -> None:
        self._counts = counts
        self.layers = counts.n.shape[2]
        totals = counts.n.sum(axis=3, dtype=np.uint64)
        if (totals != totals[:, :, :1]).any() or (totals % header.top_k).any():
            layers = totals.sum(axis=(0, 1))
            raise TraceError(
                f"{where}: column 'n': layers count {int(layers.min()):,} to {int(layers.max()):,} choices; "
                f"expected the same number in each, {header.top_k} for each token"
            )
        self.rows = int(totals[:, :, 0].sum()) // header.top_k
        if not self.rows:
            raise TraceError(f"{where}: the trace is empty: it has no rows, and counts no tokens")

    def has(self, name: str) -> bool:
        """No column is there."""
        return False

    def read(self, name: str) -> npt.NDArray[Any]:
        """Never called, as no column is there."""
        raise AssertionError(name)

    def counts(self) -> Counts:
        """What is counted."""
        return self._counts

    def cache_events(self) -> CacheEvents | None:
        """Nothing is known of them."""
        return None


def counts_of_layers(header: TraceHeader, n: npt.ArrayLike) -> Counts:
    """Counts of tokens of the first domain and of no known phase, from n (L, E)."""
    values = np.asarray(n)
    experts = header.n_routed_experts
    if values.ndim != 2 or values.shape[1] != experts or values.dtype.kind not in "iu" or values.min() < 0:
        raise TraceError(
            f"counts are {values.dtype} of the shape {values.shape}; expected whole numbers, (layers, "
            f"{experts})"
        )
    counts = np.zeros((len(header.domains), len(Phase), *values.shape), np.uint64)
    counts[0, Phase.FORCED] = values
    return Counts(
        n=counts,
        gate=np.zeros(counts.shape),
        pair=np.zeros((len(values), experts, experts), np.uint32),
        trans=np.zeros((len(values) - 1, experts, experts), np.uint32),
    )
