"""`Gathered`: sequences of routes as they are found in other programs' files, put together into one trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import Valid
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace

__all__ = ["Gathered", "model_layers"]

Array = npt.NDArray[Any]


@dataclass
class Gathered:
    """Rows so far.

    header  of the model
    domain  of all of them
    """

    header: TraceHeader
    domain: str
    _parts: list[dict[str, Array]] = field(default_factory=list)

    def add(self, where: str, expert_ids: Array, columns: Mapping[str, npt.ArrayLike | None]) -> None:
        """Add rows: expert_ids (T, L, K), and columns (T,) or one number each, None for unknown ones.

        Negative ids, and zeros throughout, say that a program does not have a token's routes.

        Raises TraceError, naming `where`, for experts that do not exist and tokens that chose one twice.
        """
        expert_ids = self._checked(where, model_layers(self.header, expert_ids, where))
        is_missing: npt.NDArray[np.bool_] = np.any(expert_ids < 0, axis=(1, 2))
        if self.header.top_k > 1:
            is_missing |= np.all(expert_ids == 0, axis=(1, 2))
        _refuse_repeats(where, expert_ids, is_missing)
        rows = len(expert_ids)
        part = {name: np.broadcast_to(values, rows) for name, values in columns.items() if values is not None}
        part["expert_ids"] = np.where(is_missing[:, None, None], 0, expert_ids)
        part["valid"] = np.where(is_missing, 0, Valid.ROUTES)
        self._parts.append(part)

    def trace(self, where: str) -> Trace:
        """All of it; optional columns that some rows lack are left out. Raises TraceError for nothing."""
        parts = [part for part in self._parts if len(part["expert_ids"])]
        if not parts:
            raise TraceError(f"{where}: holds no routes; were they asked for when it was recorded?")
        names = [name for name in parts[0] if all(name in part for part in parts)]
        columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in names}
        header = replace(self.header, domains=(self.domain,))
        try:
            return Trace.from_arrays(header, **columns)
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None

    def _checked(self, where: str, expert_ids: Array) -> Array:
        layers = self._parts[0]["expert_ids"].shape[1] if self._parts else expert_ids.shape[1]
        if expert_ids.shape[1:] != (layers, self.header.top_k):
            raise TraceError(
                f"{where}: has {expert_ids.shape[1]} layers and {expert_ids.shape[2]} experts of a token; "
                f"expected {layers} and {self.header.top_k}"
            )
        largest = int(expert_ids.max(initial=0))
        if largest >= self.header.n_routed_experts:
            raise TraceError(
                f"{where}: names expert {largest}; expected one of 0 to {self.header.n_routed_experts - 1}"
            )
        return expert_ids


def model_layers(header: TraceHeader, expert_ids: Array, where: str) -> Array:
    """Routes of the MoE layers: some programs give rows to dense layers too. Raises TraceError."""
    given = expert_ids.shape[1]
    if not header.layers or given == len(header.layers):
        return expert_ids
    if given <= header.layers[-1]:
        raise TraceError(
            f"{where}: has {given} layers; expected {len(header.layers)}, those with experts, or all"
        )
    return expert_ids[:, list(header.layers)]


def _refuse_repeats(where: str, expert_ids: Array, is_missing: npt.NDArray[np.bool_]) -> None:
    ordered = np.sort(expert_ids, axis=2)
    repeats = (ordered[:, :, 1:] == ordered[:, :, :-1]).any(axis=(1, 2)) & ~is_missing
    if repeats.any():
        row = int(np.flatnonzero(repeats)[0])
        raise TraceError(
            f"{where}: token {row} chose an expert twice; are there {expert_ids.shape[2]} of a token?"
        )
