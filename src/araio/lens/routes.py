"""`Routes`: a trace as metrics look at it, arrays of the tokens whose experts are known, text after text.

A trace holds rows in the order in which they ran: sequences that were served together are mixed, rows of the
prefix cache have no routes, and drafts that were thrown away are part of no text. `Routes.of` leaves those
out and puts each sequence in order of its positions, as if it had run alone. Counts that many metrics need
are made here once. Refuses a trace with no token left. Read `load.py` next, and docs/metrics.md for all
metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.tensors import Float32Array
from araio.traces.columns import Phase
from araio.traces.trace import Trace

__all__ = ["BoolArray", "Float64Array", "Int64Array", "IntArray", "Routes"]

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Float64Array: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Routes:
    """Experts of T tokens in L layers, K each, of E. Sequences lie one behind the other.

    experts    (T, L, K) ids, the largest weight first
    n_experts  E
    seq        (T,) int64 number of the sequence, 0 to S - 1 and never falling
    domain     (T,) int64 index into `domains`, the same for all tokens of a sequence
    position   (T,) int64 in the sequence, rising
    domains    names
    layers     numbers of the L layers in the model, for people
    weights    (T, L, K) float32, None if unknown
    token_id   (T,) int64, None if unknown
    margin     (T, L) float32, None if unknown
    n_group, topk_group  the groups that the router chooses in
    """

    experts: IntArray
    n_experts: int
    seq: Int64Array
    domain: Int64Array
    position: Int64Array
    domains: tuple[str, ...]
    layers: tuple[int, ...]
    weights: Float32Array | None = None
    token_id: Int64Array | None = None
    margin: Float32Array | None = None
    n_group: int = 1
    topk_group: int = 1

    @staticmethod
    def of(trace: Trace, phases: Sequence[Phase] | None = None) -> Routes:
        """The tokens of a trace whose routes are known, without drafts that were thrown away.

        phases  only these; None for all but DRAFT

        Raises:
            TraceError: no token is left.
        """
        rows = np.flatnonzero(trace.where(phase=phases))
        if not len(rows):
            names = "any phase" if phases is None else ", ".join(phase.name.lower() for phase in phases)
            raise TraceError(
                f"none of the trace's {trace.tokens} tokens has known experts in {names}; record it again"
            )
        rows = rows[np.lexsort([trace.column(name)[rows] for name in ("position", "domain", "seq")])]

        def cut(name: str) -> npt.NDArray[Any] | None:
            return trace.column(name)[rows] if trace.has(name) else None

        return Routes.from_arrays(
            trace.experts[rows],
            trace.header.n_routed_experts,
            **{name: cut(name) for name in ("seq", "domain", "position", "weights", "token_id", "margin")},
            domains=trace.domains,
            layers=trace.header.layers,
            n_group=trace.header.n_group,
            topk_group=trace.header.topk_group,
        )

    @staticmethod
    def from_arrays(
        experts: npt.NDArray[Any],
        n_experts: int,
        *,
        seq: npt.NDArray[Any] | None = None,
        domain: npt.NDArray[Any] | None = None,
        position: npt.NDArray[Any] | None = None,
        domains: Sequence[str] | None = None,
        layers: Sequence[int] = (),
        weights: npt.NDArray[Any] | None = None,
        token_id: npt.NDArray[Any] | None = None,
        margin: npt.NDArray[Any] | None = None,
        n_group: int = 1,
        topk_group: int = 1,
    ) -> Routes:
        """Routes of plain arrays; by default one sequence of one domain.

        Rows of a sequence must lie together. One that goes on in another domain counts as two.
        """
        tokens, depth, _ = experts.shape
        seq = np.zeros(tokens, np.int64) if seq is None else seq.astype(np.int64)
        domain = np.zeros(tokens, np.int64) if domain is None else domain.astype(np.int64)
        begins = np.ones(tokens, bool)
        begins[1:] = (np.diff(seq) != 0) | (np.diff(domain) != 0)
        if position is None:
            starts = np.flatnonzero(begins)
            position = np.arange(tokens) - np.repeat(starts, np.diff(np.append(starts, tokens)))
        names = tuple(domains or (f"domain {index}" for index in range(int(domain.max(initial=0)) + 1)))
        return Routes(
            experts=experts,
            n_experts=n_experts,
            seq=np.cumsum(begins) - 1,
            domain=domain,
            position=position.astype(np.int64),
            domains=names,
            layers=tuple(layers) or tuple(range(depth)),
            weights=None if weights is None else weights.astype(np.float32),
            token_id=None if token_id is None else token_id.astype(np.int64),
            margin=None if margin is None else margin.astype(np.float32),
            n_group=n_group,
            topk_group=topk_group,
        )

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.experts)

    @property
    def depth(self) -> int:
        """L."""
        return int(self.experts.shape[1])

    @property
    def top_k(self) -> int:
        """K."""
        return int(self.experts.shape[2])

    @property
    def sequences(self) -> int:
        """S."""
        return int(self.seq[-1]) + 1 if len(self.seq) else 0

    @cached_property
    def sequence_domain(self) -> Int64Array:
        """(S,) the domain of each sequence."""
        return self.domain[np.searchsorted(self.seq, np.arange(self.sequences))]

    @cached_property
    def sequence_tokens(self) -> Int64Array:
        """(S,) tokens of each sequence."""
        return np.bincount(self.seq, minlength=self.sequences)

    @cached_property
    def domain_tokens(self) -> Int64Array:
        """(D,) tokens of each domain."""
        return np.bincount(self.domain, minlength=len(self.domains))

    @cached_property
    def sequence_counts(self) -> npt.NDArray[np.int32]:
        """(S, L, E) how often each sequence chose each expert."""
        counts = np.empty((self.sequences, self.depth, self.n_experts), np.int32)
        base = self.seq[:, None] * self.n_experts
        for layer in range(self.depth):
            flat = np.bincount((base + self.experts[:, layer]).ravel(), minlength=counts[:, 0].size)
            counts[:, layer] = flat.reshape(-1, self.n_experts)
        return counts

    @cached_property
    def counts(self) -> Int64Array:
        """(D, L, E) how often each domain chose each expert; a layer's sum is K times the domain's tokens."""
        counts = np.zeros((len(self.domains), self.depth, self.n_experts), np.int64)
        np.add.at(counts, self.sequence_domain, self.sequence_counts)
        return counts

    @cached_property
    def gate_mass(self) -> Float64Array | None:
        """(D, L, E) sums of the weights by which experts were chosen; None if unknown."""
        if self.weights is None:
            return None
        mass = np.empty((len(self.domains), self.depth, self.n_experts))
        base = self.domain[:, None] * self.n_experts
        for layer in range(self.depth):
            places = (base + self.experts[:, layer]).ravel()
            flat = np.bincount(places, self.weights[:, layer].ravel(), minlength=mass[:, 0].size)
            mass[:, layer] = flat.reshape(-1, self.n_experts)
        return mass

    def select(self, rows: BoolArray) -> Routes:
        """The routes of these tokens only; sequences are numbered anew, positions stay."""

        def cut(column: npt.NDArray[Any] | None) -> Any:
            return None if column is None else column[rows]

        _, seq = np.unique(self.seq[rows], return_inverse=True)
        names = ("experts", "domain", "position", "weights", "token_id", "margin")
        return replace(self, seq=seq.astype(np.int64), **{name: cut(getattr(self, name)) for name in names})
