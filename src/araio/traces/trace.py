"""`Trace`: which experts every token used, read from a folder or made from arrays.

Columns are read when they are asked for and checked as they are. Rows are in order of their sequences,
whatever order they ran in, so that every sequence is a slice; `clock` has the order in which they ran.
Traces in memory and on disk are one class. Read `columns.py` for what the columns mean, `reader.py` for the
files, `docs/traces.md` for the format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.arrays import ArrayColumns
from araio.traces.blocks import rows_of
from araio.traces.columns import COLUMNS, CacheEvents, Phase, Rows, Segment, Valid
from araio.traces.counted import CountedColumns, counts_of_layers
from araio.traces.counts import Counts, count_columns
from araio.traces.header import TraceHeader
from araio.traces.pool import pooled
from araio.traces.reader import open_folder
from araio.traces.writer import TraceWriter

__all__ = ["Columns", "Trace"]

Array = npt.NDArray[Any]
_BLOCK_ROWS = 1 << 14


class Columns(Protocol):
    """Where the columns of a trace come from, in the order in which rows ran."""

    rows: int
    layers: int

    def has(self, name: str) -> bool:
        """Whether a column is there."""

    def read(self, name: str) -> Array:
        """A column that is there, checked; raises TraceError."""

    def counts(self) -> Counts | None:
        """What is counted of the rows, if it is stored; raises TraceError."""

    def cache_events(self) -> CacheEvents | None:
        """What became of experts, if it was recorded; raises TraceError."""


class Trace:
    """The routes of T tokens through L layers, K of E experts each.

    header  whose they are
    draft   the routes of the layers that draft, one row for each token they ran for; None if not recorded
    """

    def __init__(self, header: TraceHeader, columns: Columns, draft: Trace | None = None) -> None:
        self.header = header
        self.draft = draft
        self._columns = columns
        self._held: dict[str, Array] = {}

    # ------------------------------------------------------------------ where traces come from

    @classmethod
    def open(cls, folder: str | Path) -> Trace:
        """The trace in a folder; its header and files are checked now, its columns when they are read.

        Raises TraceError for a folder that holds no trace, or a damaged one.
        """
        header, tokens, drafts = open_folder(Path(folder))
        return cls(header, tokens, None if drafts is None else cls(drafts.header, drafts))

    @classmethod
    def from_arrays(
        cls,
        header: TraceHeader,
        *,
        expert_ids: npt.ArrayLike,
        cache_events: CacheEvents | None = None,
        draft: Trace | None = None,
        **columns: npt.ArrayLike | None,
    ) -> Trace:
        """A trace in memory: expert_ids (T, L, K), and of the other columns those that are known.

        Left out, all rows are of one sequence, domain and segment, prefilled, and their experts are there;
        positions count from 0 in each sequence. The experts of a token are sorted by weight.

        Raises TraceError for arrays that contradict each other or the header.
        """
        source = ArrayColumns.made(header, {"expert_ids": expert_ids, **columns}, cache_events)
        header = replace(header, columns=source.optional)
        if draft is not None:
            header = replace(header, mtp_layers=draft.header.layers)
            if draft.header != header.of_drafts():
                raise TraceError(
                    f"drafts are of {draft.header}; expected {header.of_drafts()}, as the tokens are"
                )
        return cls(header, source, draft)

    @classmethod
    def from_counts(cls, header: TraceHeader, n: npt.ArrayLike) -> Trace:
        """A trace of counts n (L, E) alone: tokens of the first domain, of which nothing else is known.

        It has no columns. Raises TraceError for counts that are not of K experts in every layer.
        """
        return cls(header, CountedColumns(header, counts_of_layers(header, n), "counts"))

    @classmethod
    def join(cls, traces: Iterable[Trace]) -> Trace:
        """Traces of one model as one: domains of the same name are united, sequences numbered anew.

        Columns that one of them lacks are left out.

        Raises TraceError for traces of different models, or none.
        """
        traces = list(traces)
        if len(traces) == 1:
            return traces[0]
        if not all(trace.has("expert_ids") for trace in traces):
            raise TraceError(
                "a trace of counts alone cannot be joined with others; import its tokens instead"
            )
        header, columns, cache_events = pooled(
            [(trace.header, trace.n_layers, trace.recorded(), trace.cache_events) for trace in traces]
        )
        drafts = [trace.draft for trace in traces if trace.draft is not None]
        draft = cls.join(drafts) if len(drafts) == len(traces) else None
        return cls.from_arrays(header, cache_events=cache_events, draft=draft, **columns)

    # ------------------------------------------------------------------ what they hold

    @property
    def tokens(self) -> int:
        """Rows, T."""
        return self._columns.rows

    @property
    def n_layers(self) -> int:
        """Layers, L."""
        return self._columns.layers

    @property
    def domains(self) -> tuple[str, ...]:
        """The names that the column `domain` counts."""
        return self.header.domains

    def has(self, name: str) -> bool:
        """Whether a column is there; raises TraceError for a name that no column has."""
        if name not in COLUMNS:
            raise TraceError(f"no trace has a column {name!r}; expected one of {', '.join(COLUMNS)}")
        return self._columns.has(name)

    def column(self, name: str) -> Array:
        """A column in its stored type, not to be written to.

        Raises TraceError when it is not there, or damaged.
        """
        if not self.has(name):
            raise TraceError(
                f"the trace has no column {name!r}; it was made without, so what needs it cannot be told"
            )
        if name not in self._held:
            values = self._columns.read(name)
            values = values if self._order is None else values[self._order]
            values.flags.writeable = False
            self._held[name] = values
        return self._held[name]

    @property
    def experts(self) -> Array:
        """expert_ids (T, L, K) uint8 or uint16: of each token and layer, the largest weight first."""
        return self.column("expert_ids")

    @property
    def weights(self) -> npt.NDArray[np.float16]:
        """Weights (T, L, K) of `experts`, before the scaling factor; see `TraceHeader.norm_topk_prob`."""
        return self.column("weights")

    @cached_property
    def clock(self) -> npt.NDArray[np.int64]:
        """(T,): which row ran first, second, …; cache events count time in it."""
        return np.arange(self.tokens) if self._order is None else self._order

    @cached_property
    def sequences(self) -> tuple[slice, ...]:
        """The rows of each sequence."""
        seq = self.column("seq")
        borders = [0, *(np.flatnonzero(np.diff(seq)) + 1).tolist(), len(seq)]
        return tuple(slice(begin, end) for begin, end in pairwise(borders))

    @cached_property
    def counts(self) -> Counts:
        """How often experts were chosen, alone and together; as stored, or counted now."""
        stored = self._columns.counts()
        if stored is not None:
            return stored
        names = ("expert_ids", "weights", "domain", "phase", "valid")
        columns = {name: self.column(name) for name in names if self.has(name)}
        return count_columns(columns, len(self.domains), self.header.n_routed_experts)

    @cached_property
    def cache_events(self) -> CacheEvents | None:
        """What became of the experts of a streamed model, in order; None if it was not recorded.

        Raises TraceError when they are damaged.
        """
        return self._columns.cache_events()

    def where(
        self,
        *,
        domain: str | int | Iterable[str | int] | None = None,
        phase: Phase | Iterable[Phase] | None = None,
        segment: Segment | Iterable[Segment] | None = None,
        valid: bool | None = True,
    ) -> npt.NDArray[np.bool_]:
        """(T,): which rows are of a domain, phase and segment, each one or several.

        domain  names or numbers
        phase   None for all but DRAFT, whose tokens are no part of any text
        valid   rows whose experts are there, or are not; None for both

        Raises TraceError for a domain that the trace does not have.
        """
        mask = np.ones(self.tokens, bool)
        if domain is not None:
            wanted = [domain] if isinstance(domain, str | int | np.integer) else list(domain)
            mask &= np.isin(self.column("domain"), [self._domain(name) for name in wanted])
        phases = [one for one in Phase if one != Phase.DRAFT] if phase is None else phase
        mask &= _is_in(self.column("phase"), phases)
        if segment is not None:
            mask &= _is_in(self.column("segment"), segment)
        if valid is not None:
            mask &= ((self.column("valid") & Valid.ROUTES) != 0) == valid
        return mask

    # ------------------------------------------------------------------ all of it

    def recorded(self) -> dict[str, Array]:
        """Every column that is there, in the order in which rows ran."""
        order = None if self._order is None else np.argsort(self._order)
        held = {name: self.column(name) for name in COLUMNS if self.has(name)}
        return held if order is None else {name: values[order] for name, values in held.items()}

    def check(self) -> None:
        """Read and check every column, of drafts too; raises TraceError."""
        for name in COLUMNS:
            if self.has(name):
                self.column(name)
        if self.draft is not None:
            self.draft.check()

    def save(self, folder: str | Path) -> None:
        """Write the trace; raises TraceError when the folder exists or the disk refuses."""
        with TraceWriter(Path(folder), self.header) as writer:
            if not self.has("expert_ids"):
                writer.add_counts(self.counts)
                return
            for rows in self._blocks():
                writer.add(rows)
            for rows in self.draft._blocks() if self.draft is not None else ():
                writer.add_draft(rows)
            if self.cache_events is not None:
                writer.add_cache_events(self.cache_events)

    def _blocks(self) -> Iterable[Rows]:
        columns = self.recorded()
        for begin in range(0, self.tokens, _BLOCK_ROWS):
            block = {name: values[begin : begin + _BLOCK_ROWS] for name, values in columns.items()}
            yield rows_of(block)

    def _domain(self, name: str | int) -> int:
        if isinstance(name, int | np.integer):
            name = self.domains[name] if 0 <= name < len(self.domains) else str(name)
        if name not in self.domains:
            raise TraceError(f"the trace has no domain {name!r}; expected one of {', '.join(self.domains)}")
        return self.domains.index(name)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64] | None:
        """The rows sorted by sequence, or None if they are."""
        if not self.has("seq"):
            return None
        seq = self._columns.read("seq")
        return None if np.all(seq[1:] >= seq[:-1]) else np.argsort(seq, kind="stable")


def _is_in(values: Array, wanted: int | Iterable[int]) -> npt.NDArray[np.bool_]:
    return np.isin(values, [wanted] if isinstance(wanted, int | np.integer) else list(wanted))
