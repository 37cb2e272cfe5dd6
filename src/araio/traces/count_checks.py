"""What must hold of counts: they are of K experts for every token, agree with each other, and with the rows.

Sums are checked when a trace is opened, each expert when the rows are read, pairs when the counts are. Read
`counts.py` for what they mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import Phase, Valid
from araio.traces.counts import Counts
from araio.traces.header import TraceHeader

__all__ = ["check_counts", "check_squares", "check_totals", "counted"]

Array = npt.NDArray[Any]

_LARGEST_WEIGHT = float(np.finfo(np.float16).max)


def counted(header: TraceHeader, expert_ids: Array, columns: dict[str, Array]) -> npt.NDArray[np.uint64]:
    """Choices (D, P, L, E) of rows: expert_ids (T, L, K) with their domain, phase and valid."""
    shape = (len(header.domains), len(Phase), header.n_routed_experts)
    has_routes = (columns["valid"] & Valid.ROUTES) != 0
    group = (columns["domain"].astype(np.int64) * len(Phase) + columns["phase"])[has_routes] * shape[2]
    layers = [
        np.bincount((group[:, None] + expert_ids[has_routes, layer]).ravel(), minlength=int(np.prod(shape)))
        for layer in range(expert_ids.shape[1])
    ]
    return np.stack([layer.reshape(shape) for layer in layers], axis=2).astype(np.uint64)


def check_totals(header: TraceHeader, n: Array, columns: dict[str, Array], where: str) -> None:
    """Every layer must count K experts for each row with routes, by domain and phase; raises TraceError."""
    has_routes = (columns["valid"] & Valid.ROUTES) != 0
    group = (columns["domain"].astype(np.int64) * len(Phase) + columns["phase"])[has_routes]
    rows = np.bincount(group, minlength=len(header.domains) * len(Phase)).reshape(
        len(header.domains), len(Phase)
    )
    totals = n.sum(axis=3, dtype=np.uint64)
    wrong = np.argwhere(totals != (rows * header.top_k).astype(np.uint64)[:, :, None])
    if len(wrong):
        domain, phase, layer = (int(index) for index in wrong[0])
        raise TraceError(
            f"{where}: column 'n': layer {layer} of domain {header.domains[domain]!r} in phase "
            f"{Phase(phase).name.lower()} counts {int(totals[domain, phase, layer]):,} choices; expected "
            f"{header.top_k} for each of {int(rows[domain, phase]):,} tokens; the trace is damaged"
        )


def check_counts(n: Array, found: Array, where: str) -> None:
    """The counts must be those of the rows; raises TraceError."""
    wrong = np.argwhere(n != found)
    if len(wrong):
        place = tuple(int(index) for index in wrong[0])
        raise TraceError(
            f"{where}: column 'n': {int(n[place]):,} choices of expert {place[3]} in layer {place[2]}, "
            f"but the rows have {int(found[place]):,}; the trace is damaged"
        )


def check_squares(header: TraceHeader, counts: Counts, where: str) -> None:
    """Mass, pairs and transitions must be those of tokens that chose as `n` says; raises TraceError."""
    kept = [phase for phase in Phase if phase != Phase.DRAFT]
    n = counts.n[:, kept].sum(axis=(0, 1), dtype=np.uint64)
    pair, trans = counts.pair, counts.trans
    top_k = np.uint64(header.top_k)
    rules = {
        "gate": _is_mass(counts.gate, counts.n),
        "pair": (pair.sum(axis=2, dtype=np.uint64) == n * (top_k - np.uint64(1))).all()
        and (pair == pair.swapaxes(1, 2)).all()
        and not np.diagonal(pair, axis1=1, axis2=2).any(),
        "trans": (trans.sum(axis=2, dtype=np.uint64) == n[:-1] * top_k).all()
        and (trans.sum(axis=1, dtype=np.uint64) == n[1:] * top_k).all(),
    }
    for name, holds in rules.items():
        if not holds:
            raise TraceError(f"{where}: column {name!r} does not agree with column 'n'; the trace is damaged")


def _is_mass(gate: Array, n: Array) -> bool:
    return bool(np.isfinite(gate).all() and (gate >= 0).all() and (gate <= n * _LARGEST_WEIGHT).all())
