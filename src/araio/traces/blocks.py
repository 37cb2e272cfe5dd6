"""Many small `Rows` as one block of columns: the work that a recorder must not do token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.formats.safetensors import STORED_TYPES
from araio.traces.arrays import by_weight
from araio.traces.checks import check_column
from araio.traces.columns import CACHE_COLUMNS, COLUMNS, OPTIONAL, CacheEvents, Rows, stored_type
from araio.traces.header import TraceHeader

__all__ = ["block_of", "event_columns", "optional_columns", "row_count", "rows_of"]

Array = npt.NDArray[Any]

_WHERE = "what was recorded"


def row_count(rows: Rows) -> int:
    """Tokens of some rows."""
    return len(rows.expert_ids[0])


def optional_columns(rows: Rows) -> tuple[str, ...]:
    """The optional columns that some rows have."""
    return tuple(name for name in OPTIONAL if getattr(rows, name) is not None)


def rows_of(columns: Mapping[str, Array]) -> Rows:
    """Columns (T, L, K) of tokens as a writer takes them, layer by layer."""
    return Rows(
        **{name: values if values.ndim == 1 else values.swapaxes(0, 1) for name, values in columns.items()}
    )


def event_columns(events: CacheEvents) -> dict[str, Array]:
    """Cache events as columns of their types."""
    return {
        name: np.asarray(column, STORED_TYPES[CACHE_COLUMNS[name]])
        for name, column in zip(CACHE_COLUMNS, events, strict=True)
    }


def block_of(header: TraceHeader, layers: int, pending: Sequence[Rows]) -> dict[str, Array]:
    """Columns (T, ...) of the pending rows, checked; the experts of a token are sorted by weight.

    Raises TraceError.
    """
    columns = dict(zip(Rows._fields, zip(*pending, strict=True), strict=True))
    counts = np.array([len(ids[0]) for ids in columns["expert_ids"]])
    sizes = {"L": layers, "K": header.top_k}
    block = {}
    for name, column in COLUMNS.items():
        parts, unknown = columns[name], [part is None for part in columns[name]]
        is_there = not column.is_optional or name in header.columns
        if any(unknown) if is_there else not all(unknown):
            raise TraceError(
                f"{_WHERE}: column {name!r} is there for some rows only; give it for all, or none"
            )
        if is_there:
            tail = tuple(sizes[axis] for axis in column.axes[1:])
            laid = _laid(name, parts, counts, tail) if tail else _listed(name, parts, counts)
            block[name] = _stored(header, name, laid)
    if "weights" in block:
        block["expert_ids"], block["weights"] = by_weight(block["expert_ids"], block["weights"])
    for name, values in block.items():
        check_column(header, name, values, block["valid"], _WHERE)
    return block


def _laid(name: str, parts: Sequence[Any], counts: Array, tail: tuple[int, ...]) -> Array:
    """(T, L, ...) of parts that lie layer by layer, as lists of arrays or as arrays."""
    shape = (int(counts.sum()), *tail)
    if all(issubclass(kind, list | tuple) for kind in set(map(type, parts))):
        flat = _joined(parts)
        if flat.size == np.prod(shape):
            # Part after part, in each layer after layer, in each token after token.
            part = np.repeat(np.arange(len(parts)), counts)
            begin = np.cumsum(counts) - counts
            places = (begin * tail[0] - begin)[part] + np.arange(shape[0])
            rows = places[:, None] + np.arange(tail[0]) * counts[part][:, None]
            in_rows: Array = flat.reshape(-1, *tail[1:])[rows]
            return in_rows
    else:
        arrays = [np.moveaxis(np.asarray(part), 0, 1) for part in parts]
        if all(array.shape[1:] == tail for array in arrays) and sum(map(len, arrays)) == shape[0]:
            return np.concatenate(arrays)
    raise TraceError(
        f"{_WHERE}: column {name!r} is not of {tail[0]} layers, the tokens of the other columns in each, and "
        f"{tail[1] if len(tail) > 1 else 1} numbers of each token"
    )


def _joined(parts: Sequence[Sequence[Array]]) -> Array:
    """The numbers of many small arrays of one type."""
    arrays: list[Any] = list(chain.from_iterable(parts))
    try:
        # Four times as fast as np.concatenate, for arrays of a few numbers.
        return np.frombuffer(b"".join(arrays), arrays[0].dtype)
    except TypeError:  # an array that does not lie in one piece
        return np.concatenate([array.ravel() for array in arrays])


def _listed(name: str, parts: Sequence[Any], counts: Array) -> Array:
    """(T,) of arrays, lists or single numbers."""
    if all(issubclass(kind, int) for kind in set(map(type, parts))):
        return np.repeat(np.array(parts), counts)
    listed = np.concatenate(
        [[part] * count if isinstance(part, int) else part for part, count in zip(parts, counts, strict=True)]
    )
    if listed.shape != (counts.sum(),):
        raise TraceError(f"{_WHERE}: column {name!r} has {len(listed)} numbers for {counts.sum()} tokens")
    return listed


def _stored(header: TraceHeader, name: str, values: Array) -> Array:
    dtype = STORED_TYPES[stored_type(name, header.n_routed_experts)]
    limit = (
        header.n_routed_experts
        if name == "expert_ids"
        else np.iinfo(dtype).max + 1
        if dtype.kind in "iu"
        else 0
    )
    if limit and values.size and not (values.min() >= 0 and values.max() < limit):
        raise TraceError(
            f"{_WHERE}: column {name!r} has numbers from {values.min()} to {values.max()}; expected 0 to "
            f"{limit - 1}"
        )
    return values.astype(dtype)
