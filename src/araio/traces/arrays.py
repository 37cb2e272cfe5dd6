"""`ArrayColumns`: the columns of a trace that is held in memory, made from what is known of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.formats.safetensors import STORED_TYPES
from araio.traces.checks import check_column, check_events
from araio.traces.columns import COLUMNS, OPTIONAL, CacheEvents, Phase, Segment, Valid, stored_type
from araio.traces.header import TraceHeader

__all__ = ["ArrayColumns", "by_weight"]

Array = npt.NDArray[Any]
_WHERE = "trace"


class ArrayColumns:
    """Columns that were checked as they came in."""

    def __init__(self, columns: Mapping[str, Array], cache_events: CacheEvents | None = None) -> None:
        self._held = dict(columns)
        self._cache_events = cache_events
        self.rows, self.layers = self._held["expert_ids"].shape[:2]

    @classmethod
    def made(
        cls,
        header: TraceHeader,
        columns: Mapping[str, npt.ArrayLike | None],
        cache_events: CacheEvents | None = None,
    ) -> ArrayColumns:
        """Columns of the right type and shape; what is left out is filled in, as `Trace.from_arrays` says.

        Raises TraceError.
        """
        given = {name: np.asarray(values) for name, values in columns.items() if values is not None}
        for name in given:
            if name not in COLUMNS:
                raise TraceError(f"no trace has a column {name!r}; expected some of {', '.join(COLUMNS)}")
        rows, layers = _size(header, given["expert_ids"])
        made = {
            name: _column(header, name, values, rows, layers)
            for name, values in (_defaults(rows) | given).items()
        }
        if "position" not in made:
            made["position"] = _positions(made["seq"])
        if "weights" in made:
            made["expert_ids"], made["weights"] = by_weight(made["expert_ids"], made["weights"])
        for name, values in made.items():
            check_column(header, name, values, made["valid"], _WHERE)
        if cache_events is not None:
            check_events(header, cache_events, rows, _WHERE)
        return cls(made, cache_events)

    @property
    def optional(self) -> tuple[str, ...]:
        """The optional columns that are there."""
        return tuple(name for name in OPTIONAL if name in self._held)

    def has(self, name: str) -> bool:
        """Whether a column is there."""
        return name in self._held

    def read(self, name: str) -> Array:
        """A column that is there."""
        return self._held[name]

    def counts(self) -> None:
        """Nothing is counted beforehand."""

    def cache_events(self) -> CacheEvents | None:
        """What became of experts, if it is known."""
        return self._cache_events


def by_weight(expert_ids: Array, weights: Array) -> tuple[Array, Array]:
    """Ids and weights (..., K) with the largest weight first; equal ones keep their order."""
    if np.all(weights[..., 1:] <= weights[..., :-1]):
        return expert_ids, weights
    order = np.argsort(-weights, axis=-1, kind="stable")
    return np.take_along_axis(expert_ids, order, -1), np.take_along_axis(weights, order, -1)


def _size(header: TraceHeader, expert_ids: Array) -> tuple[int, int]:
    if expert_ids.ndim != 3 or expert_ids.shape[2] != header.top_k:
        raise TraceError(
            f"{_WHERE}: column 'expert_ids' has the shape {expert_ids.shape}; expected (tokens, layers, "
            f"{header.top_k})"
        )
    rows, layers = expert_ids.shape[:2]
    if not rows or not layers:
        raise TraceError(f"{_WHERE}: has {rows} tokens and {layers} layers; expected at least one of each")
    if header.layers and len(header.layers) != layers:
        raise TraceError(
            f"{_WHERE}: column 'expert_ids' has {layers} layers; expected the header's {len(header.layers)}"
        )
    return rows, layers


def _defaults(rows: int) -> dict[str, Array]:
    values = {"seq": 0, "phase": Phase.PREFILL, "domain": 0, "segment": Segment.PROMPT, "valid": Valid.ROUTES}
    return {name: np.full(rows, int(value)) for name, value in values.items()}


def _column(header: TraceHeader, name: str, values: Array, rows: int, layers: int) -> Array:
    sizes = {"T": rows, "L": layers, "K": header.top_k}
    expected = tuple(sizes[axis] for axis in COLUMNS[name].axes)
    if values.shape != expected:
        raise TraceError(f"{_WHERE}: column {name!r} has the shape {values.shape}; expected {expected}")
    dtype = STORED_TYPES[stored_type(name, header.n_routed_experts)]
    if dtype.kind == "f":
        if values.dtype.kind not in "fiu":
            raise TraceError(f"{_WHERE}: column {name!r} holds {values.dtype}; expected numbers")
        with np.errstate(over="ignore"):  # an infinity is refused with the row it is in
            return values.astype(dtype)
    limits = np.iinfo(dtype)
    if values.dtype.kind not in "iub" or values.min() < limits.min or values.max() > limits.max:
        raise TraceError(
            f"{_WHERE}: column {name!r} holds {values.dtype} up to {values.max()}; expected integers "
            f"from 0 to {limits.max}"
        )
    return values.astype(dtype)


def _positions(seq: Array) -> npt.NDArray[np.int32]:
    """Count rows in their sequence."""
    order = np.argsort(seq, kind="stable")
    begins = np.flatnonzero(np.diff(seq[order], prepend=seq[order[0]] - 1))
    counted = np.arange(len(seq)) - np.repeat(begins, np.diff([*begins, len(seq)]))
    positions = np.empty(len(seq), np.int32)
    positions[order] = counted
    return positions
