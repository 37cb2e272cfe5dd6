"""Many small `Rows` as one block of columns: the work that a recorder must not do token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.formats.safetensors import STORED_TYPES
from araio.traces.arrays import by_weight
from araio.traces.checks import check_column
from araio.traces.columns import COLUMNS, OPTIONAL, Rows, id_type
from araio.traces.header import TraceHeader

__all__ = ["block_of", "optional_columns", "row_count"]

Array = npt.NDArray[Any]


def row_count(rows: Rows) -> int:
    """Tokens of some rows."""
    return len(rows.expert_ids[0])


def optional_columns(rows: Rows) -> tuple[str, ...]:
    """The optional columns that some rows have."""
    return tuple(name for name in OPTIONAL if getattr(rows, name) is not None)


def block_of(header: TraceHeader, pending: Sequence[Rows]) -> dict[str, Array]:
    """Columns (T, ...) of the pending rows, checked; the experts of a token are sorted by weight.

    Raises TraceError.
    """
    counts = [row_count(rows) for rows in pending]
    block = {
        name: _laid(header, name, pending) if len(column.axes) > 1 else _listed(name, pending, counts)
        for name, column in COLUMNS.items()
        if not column.is_optional or name in header.columns
    }
    if "weights" in block:
        block["expert_ids"], block["weights"] = by_weight(block["expert_ids"], block["weights"])
    for name, values in block.items():
        check_column(header, name, values, block["valid"], "what was recorded")
    return block


def _laid(header: TraceHeader, name: str, pending: Sequence[Rows]) -> Array:
    """(T, L, ...) of rows that lie layer by layer."""
    stored_as = id_type(header.n_routed_experts) if name == "expert_ids" else COLUMNS[name].stored_as[0]
    parts = [getattr(rows, name) for rows in pending]
    first = np.concatenate([part[0] for part in parts])
    laid = np.empty((len(first), len(parts[0]), *first.shape[1:]), STORED_TYPES[stored_as])
    for layer in range(len(parts[0])):
        laid[:, layer] = np.concatenate([part[layer] for part in parts]) if layer else first
    return laid


def _listed(name: str, pending: Sequence[Rows], counts: Sequence[int]) -> Array:
    """(T,) of rows that have arrays, lists or one number."""
    dtype = STORED_TYPES[COLUMNS[name].stored_as[0]]
    parts = [getattr(rows, name) for rows in pending]
    if all(isinstance(part, int) for part in parts):
        return np.repeat(np.array(parts, dtype), counts)
    listed = np.concatenate(
        [
            np.full(count, part) if isinstance(part, int) else part
            for part, count in zip(parts, counts, strict=True)
        ]
    ).astype(dtype)
    if len(listed) != sum(counts):
        raise TraceError(f"column {name!r} has {len(listed)} numbers for {sum(counts)} tokens")
    return listed
