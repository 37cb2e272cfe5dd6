"""`Counts`: how often experts were chosen, alone, together and one layer after another; `Tally` adds them up.

A trace carries them so that its largest questions need none of its rows, and its reader holds them against
the rows that it does read. Memory is that of the square of the experts for each layer, whatever the number of
tokens. Read `writer.py` for who counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.traces.columns import Phase, Valid

__all__ = ["COUNTS_COLUMNS", "Counts", "Tally", "count_columns"]

COUNTS_COLUMNS = {"n": "U64", "gate": "F64", "pair": "U32", "trans": "U32"}

IntArray = npt.NDArray[np.integer]

_BLOCK_ROWS = 1 << 14


@dataclass(frozen=True)
class Counts:
    """Over the rows whose experts are there, for D domains, P phases, L layers and E experts.

    n      (D, P, L, E) uint64: tokens that chose an expert
    gate   (D, P, L, E) float64: the sum of its weights; zeros if weights are unknown
    pair   (L, E, E) uint32: tokens that chose both, 0 on the diagonal; without those that were thrown away
    trans  (L - 1, E, E) uint32: tokens that chose a in layer l and b in the next, likewise
    """

    n: npt.NDArray[np.uint64]
    gate: npt.NDArray[np.float64]
    pair: npt.NDArray[np.uint32]
    trans: npt.NDArray[np.uint32]


class Tally:
    """Adds tokens to counts, block by block."""

    def __init__(self, domains: int, layers: int, experts: int) -> None:
        self.experts = experts
        self._shape = (layers, domains, len(Phase), experts)
        self._n = np.zeros((layers, domains * len(Phase) * experts), np.int64)
        self._gate = np.zeros(self._n.shape, np.float64)
        self._pair = np.zeros((layers, experts * experts), np.uint32)
        self._trans = np.zeros((max(layers - 1, 0), experts * experts), np.uint32)

    def add(
        self,
        expert_ids: IntArray,
        weights: npt.NDArray[np.float16] | None,
        domain: IntArray,
        phase: IntArray,
        valid: IntArray,
    ) -> None:
        """Count rows: expert_ids and weights (L, T, K), the others (T,)."""
        has_routes = (valid & Valid.ROUTES) != 0
        group = (domain.astype(np.int64) * len(Phase) + phase)[has_routes]
        is_kept = (phase != Phase.DRAFT)[has_routes]
        before = None
        for layer, chosen in enumerate(expert_ids):
            ids = chosen[has_routes].astype(np.int64)
            self._count(layer, ids, group, None if weights is None else weights[layer][has_routes])
            ids = ids[is_kept]
            self._pair[layer] += self._pairs(ids)
            if before is not None:
                both = before[:, :, None] * self.experts + ids[:, None, :]
                self._trans[layer - 1] += self._bins(both)
            before = ids

    def grow(self, domains: int) -> None:
        """Count so many domains from now on."""
        layers, before, phases, experts = self._shape
        more = ((0, 0), (0, (domains - before) * phases * experts))
        self._n, self._gate = np.pad(self._n, more), np.pad(self._gate, more)
        self._shape = (layers, domains, phases, experts)

    def counts(self) -> Counts:
        """What was added so far."""
        layers, experts = self._shape[0], self.experts
        pair = self._pair.reshape(layers, experts, experts)
        return Counts(
            n=np.ascontiguousarray(np.moveaxis(self._n.reshape(self._shape), 0, 2)).astype(np.uint64),
            gate=np.ascontiguousarray(np.moveaxis(self._gate.reshape(self._shape), 0, 2)),
            pair=pair + pair.swapaxes(1, 2),
            trans=self._trans.reshape(-1, experts, experts),
        )

    def _count(
        self, layer: int, ids: IntArray, group: IntArray, weights: npt.NDArray[np.float16] | None
    ) -> None:
        places = (group[:, None] * self.experts + ids).ravel()
        self._n[layer] += np.bincount(places, minlength=self._n.shape[1])
        if weights is not None:
            mass = weights.astype(np.float64).ravel()
            self._gate[layer] += np.bincount(places, weights=mass, minlength=self._n.shape[1])

    def _pairs(self, ids: IntArray) -> npt.NDArray[np.uint32]:
        first, second = np.triu_indices(ids.shape[1], 1)
        return self._bins(ids[:, first] * self.experts + ids[:, second])

    def _bins(self, places: IntArray) -> npt.NDArray[np.uint32]:
        counted: npt.NDArray[np.uint32] = np.bincount(places.ravel(), minlength=self.experts**2).astype(
            np.uint32
        )
        return counted


def count_columns(columns: Mapping[str, npt.NDArray[Any]], domains: int, experts: int) -> Counts:
    """What whole columns (T, ...) add up to."""
    tokens, layers = columns["expert_ids"].shape[:2]
    tally = Tally(domains, layers, experts)
    for begin in range(0, tokens, _BLOCK_ROWS):
        block = {name: values[begin : begin + _BLOCK_ROWS] for name, values in columns.items()}
        weights = block.get("weights")
        tally.add(
            block["expert_ids"].swapaxes(0, 1),
            None if weights is None else weights.swapaxes(0, 1),
            block["domain"],
            block["phase"],
            block["valid"],
        )
    return tally.counts()
