"""What must hold of the numbers of a trace, whoever wrote them; an error names the column where it does not.

Every column is checked when it is read, so nothing that is computed from one rests on ids of experts that do
not exist, weights that are not numbers, or a token that chose an expert twice. Read `columns.py` for what
each column is, and `count_checks.py` for what is counted of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import COLUMNS, CacheEvent, CacheEvents, Valid
from araio.traces.header import TraceHeader

__all__ = ["check_column", "check_events"]

# Float16 rounds each of K weights by at most 2^-12 of 1; importers read weights of four decimals.
SUM_TOLERANCE = 2e-3
_BLOCK_ROWS = 1 << 14

Array = npt.NDArray[Any]


def check_column(
    header: TraceHeader, name: str, values: Array, valid: npt.NDArray[np.uint8], where: str
) -> None:
    """Check the numbers of one column; shapes and types are known to be right.

    valid  of the same rows
    where  what to name in an error

    Raises TraceError.
    """
    has_routes = (valid & Valid.ROUTES) != 0
    for begin in range(0, len(values), _BLOCK_ROWS):
        rows = slice(begin, begin + _BLOCK_ROWS)
        problem = _problem(header, name, values[rows], has_routes[rows])
        if problem:
            row, found = problem
            raise TraceError(f"{where}: column {name!r}: row {begin + row:,}: {found}; the trace is damaged")


def _problem(
    header: TraceHeader, name: str, values: Array, has_routes: npt.NDArray[np.bool_]
) -> tuple[int, str] | None:
    for bad, found in _rules(header, name, values, has_routes):
        rows = np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))
        if len(rows):
            return int(rows[0]), found
    return None


def _rules(
    header: TraceHeader, name: str, values: Array, has_routes: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.bool_], str]]:
    """Which numbers break which rule."""
    if name == "expert_ids":
        yield (
            values >= header.n_routed_experts,
            f"an expert beyond the {header.n_routed_experts} that there are",
        )
        yield _repeats(values) & has_routes[:, None], "an expert is chosen twice"
    elif name == "weights":
        yield ~np.isfinite(values), "a weight is not a number"
        yield values < 0, "a weight is negative"
        yield values[..., 1:] > values[..., :-1], "weights do not fall from the first expert to the last"
        # One weight alone is not normalised by the softmax routers.
        if header.norm_topk_prob and header.top_k > 1:
            off = np.abs(values.sum(axis=-1, dtype=np.float32) - 1) > SUM_TOLERANCE
            yield off & has_routes[:, None], "weights do not add up to 1, as norm_topk_prob says"
    elif name == "margin":
        yield np.isnan(values) | (values < 0), "a margin is negative or not a number"
    elif name == "domain":
        yield values >= len(header.domains), f"a domain beyond the {len(header.domains)} that have names"
    elif COLUMNS[name].limit:
        yield values >= COLUMNS[name].limit, f"a number above {COLUMNS[name].limit - 1}"
    else:
        yield values < 0, "a negative number"
    if COLUMNS[name].axes != "T":
        yield (
            (values != 0) & ~_like(has_routes, values),
            "something is there, but `valid` says that nothing is",
        )


def _repeats(ids: Array) -> npt.NDArray[np.bool_]:
    """(T, L): whether two of the K experts of (T, L, K) are the same."""
    # Plane by plane: comparing whole planes is several times faster than sorting rows of a few numbers.
    planes = [np.ascontiguousarray(ids[:, :, k]) for k in range(ids.shape[2])]
    repeated = np.zeros(ids.shape[:2], bool)
    for later, plane in enumerate(planes):
        for earlier in planes[:later]:
            repeated |= plane == earlier
    return repeated


def _like(rows: npt.NDArray[np.bool_], values: Array) -> npt.NDArray[np.bool_]:
    return rows.reshape(-1, *([1] * (values.ndim - 1)))


def check_events(header: TraceHeader, events: CacheEvents, rows: int, where: str) -> None:
    """Cache events must be of rows, layers and experts that there are; raises TraceError."""
    layers = [*header.layers, *header.mtp_layers]
    rules = {
        "t": (events.t < 0) | (events.t > rows),
        "layer": ~np.isin(events.layer, layers) if header.layers else np.zeros(len(events.layer), bool),
        "expert": events.expert >= header.n_routed_experts,
        "kind": events.kind >= len(CacheEvent),
    }
    for name, bad in rules.items():
        wrong = np.flatnonzero(bad)
        if len(wrong):
            raise TraceError(
                f"{where}: column {name!r}: event {int(wrong[0]):,} has "
                f"{int(getattr(events, name)[wrong[0]])}, which is not there; the trace is damaged"
            )
