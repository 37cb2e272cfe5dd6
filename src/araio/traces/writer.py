"""`TraceWriter`: a folder in which a trace grows while a model runs, until it takes its name.

`add` keeps what it is given. The work of many tokens is done at once, every few thousand, in a thread of the
writer's own: whoever runs the model hardly waits for it, and Ctrl-C cannot tear it. Files grow in
`NAME.partial`; `close` completes them, writes `trace.json` last and renames the folder, so that whatever has
the name is complete. A trace that is there already is not touched, or, where that was asked for, replaced by
a complete one. What a killed process left behind is no trace, and the next recording of that name clears it
away. Read `spool.py` for how shards come about, `trace.py` for the way back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

import numpy.typing as npt

from araio.atomic import flush_folder, write_text
from araio.errors import TraceError
from araio.formats.tensor_file import TensorFileWriter
from araio.traces.blocks import block_of, event_columns, optional_columns, row_count
from araio.traces.claim import claim, storage_errors, take_name
from araio.traces.columns import CacheEvents, Rows
from araio.traces.counts import COUNTS_COLUMNS, Counts, Tally
from araio.traces.header import HEADER_NAME, TraceFiles, TraceHeader, header_text
from araio.traces.spool import Spool, shard_name

__all__ = ["CACHE_FILE", "COUNTS_FILE", "TraceWriter"]

COUNTS_FILE = "counts.safetensors"
CACHE_FILE = "cache.safetensors"

# Enough that the work for a block is spread thin, and little enough that a step hardly waits for it.
BLOCK_ROWS = 2048

Array = npt.NDArray[Any]


@dataclass
class _Pending:
    """What was handed over and not yet written."""

    rows: list[Rows] = field(default_factory=list)
    drafts: list[Rows] = field(default_factory=list)
    events: list[CacheEvents] = field(default_factory=list)


class TraceWriter:
    """A trace in the making; a context that closes it, also when what runs in it fails.

    folder          the trace's name, which must be free
    header          its columns follow from the first rows
    rows_per_shard  of a file
    overwrite       a trace of that name may be there: it goes when this one is complete
    tokens          rows so far: the time of cache events

    Raises TraceError when the folder exists, another process is writing it, or the disk refuses.
    """

    def __init__(
        self,
        folder: str | Path,
        header: TraceHeader,
        rows_per_shard: int = 1 << 20,
        *,
        overwrite: bool = False,
    ) -> None:
        self.out = Path(folder).absolute()
        self.header = replace(header, created=header.created or _now())
        self.tokens = 0
        self._lock = RLock()
        self._pending = _Pending()
        self._pending_rows = 0
        self._layers = 0
        self._counts: Counts | None = None
        with storage_errors(self.out):
            self._descriptor, self._folder = claim(self.out, overwrite)
        self._is_open = True
        self._tally: Tally | None = None
        self._tokens = Spool(self._folder, "tokens", rows_per_shard)
        self._drafts = Spool(self._folder, "draft", rows_per_shard)
        self._events = Spool(self._folder, "cache", 1 << 62)
        self._thread = ThreadPoolExecutor(1, "trace")
        self._job: Future[None] | None = None

    def name_domains(self, names: Sequence[str]) -> None:
        """Name the domains that rows count: those of before, and others behind them.

        Raises TraceError for names that no header can have.
        """
        with self._lock:
            assert self._tally is None or tuple(names[: len(self.header.domains)]) == self.header.domains
            self._wait()
            self.header = replace(self.header, domains=tuple(names))
            if self._tally is not None:
                self._tally.grow(len(names))

    def add(self, rows: Rows) -> None:
        """Add tokens that ran; their arrays must not change any more.

        Raises TraceError, now or thousands of rows later, for rows that contradict the header or earlier
        ones, and when the disk refuses; then nothing of the trace is kept.
        """
        count = row_count(rows)
        with self._lock:
            self._expect(rows)
            self._pending.rows.append(rows)
            self.tokens += count
            self._grow(count)

    def add_draft(self, rows: Rows) -> None:
        """Add tokens that ran through the layers that draft; raises as `add` does."""
        with self._lock:
            self._expect(rows)
            self._pending.drafts.append(rows)
            self._grow(row_count(rows))

    def add_cache_events(self, events: CacheEvents) -> None:
        """Add what became of experts; raises as `add` does."""
        with self._lock:
            self._check_open()
            self._pending.events.append(events)
            self._grow(len(events.t))

    def add_counts(self, counts: Counts) -> None:
        """Write counts alone, of tokens that nothing else is known of."""
        with self._lock:
            self._check_open()
            assert not self.tokens, "a trace of counts has no rows"
            self._counts = counts
            self.tokens = int(counts.n[:, :, 0].sum()) // self.header.top_k

    def close(self) -> None:
        """Complete the trace and give it its name; once is enough, more does no harm.

        Raises TraceError when there is nothing to keep, and as `add` does.
        """
        with self._lock:
            if not self._is_open:
                return
            try:
                self._hand_over()
                self._wait()
                with storage_errors(self.out):
                    self._finish()
            except TraceError:
                self.discard()
                raise
            self._release()

    def discard(self) -> None:
        """Forget what was recorded."""
        with self._lock:
            if self._is_open:
                self._thread.shutdown(cancel_futures=True)
                shutil.rmtree(self._folder, ignore_errors=True)
                self._release()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (self.tokens and not isinstance(error, TraceError)):
            self.close()
        else:
            self.discard()

    # ------------------------------------------------------------------ in the caller's thread

    def _expect(self, rows: Rows) -> None:
        self._check_open()
        if self._tally is None:
            self.header = replace(self.header, columns=optional_columns(rows))
            self._layers = len(self.header.layers) or len(rows.expert_ids)
            self._tally = Tally(len(self.header.domains), self._layers, self.header.n_routed_experts)

    def _check_open(self) -> None:
        if not self._is_open:
            raise TraceError(f"{self.out}: is closed; nothing more can be recorded into it")

    def _grow(self, count: int) -> None:
        self._pending_rows += count
        if self._pending_rows >= BLOCK_ROWS:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give what is pending to the writer's thread, once it is done with what came before."""
        self._wait()
        pending, self._pending, self._pending_rows = self._pending, _Pending(), 0
        self._job = self._thread.submit(self._write, pending)

    def _wait(self) -> None:
        if self._job is not None:
            self._job.result()
            self._job = None

    def _release(self) -> None:
        self._is_open = False
        self._thread.shutdown()
        os.close(self._descriptor)

    # ------------------------------------------------------------------ in the writer's thread

    def _write(self, pending: _Pending) -> None:
        with storage_errors(self.out):
            if pending.rows:
                block = block_of(self.header, self._layers, pending.rows)
                self._count(block)
                self._tokens.add(block)
            if pending.drafts:
                self._drafts.add(block_of(self.header, len(self.header.mtp_layers), pending.drafts))
            for events in pending.events:
                if len(events.t):
                    self._events.add(event_columns(events))

    def _count(self, block: dict[str, Array]) -> None:
        assert self._tally is not None
        weights = block.get("weights")
        self._tally.add(
            block["expert_ids"].swapaxes(0, 1),
            None if weights is None else weights.swapaxes(0, 1),
            block["domain"],
            block["phase"],
            block["valid"],
        )

    # ------------------------------------------------------------------ at the end

    def _finish(self) -> None:
        if not self.tokens:
            raise TraceError(f"{self.out}: nothing was recorded, so there is no trace")
        for spool in (self._tokens, self._drafts, self._events):
            spool.finish()
        if self._events.shards:
            (self._folder / shard_name("cache", 0)).rename(self._folder / CACHE_FILE)
        self._write_counts()
        files = TraceFiles(tuple(self._tokens.shards), tuple(self._drafts.shards), sum(self._events.shards))
        write_text(self._folder / HEADER_NAME, header_text(self.header, files))
        take_name(self._folder, self.out)
        flush_folder(self.out.parent)

    def _write_counts(self) -> None:
        counts = self._counts
        if counts is None:
            assert self._tally is not None
            counts = self._tally.counts()
        arrays = {name: getattr(counts, name) for name in COUNTS_COLUMNS}
        tensors = {name: (COUNTS_COLUMNS[name], array.shape) for name, array in arrays.items()}
        with TensorFileWriter(self._folder / COUNTS_FILE, tensors) as writer:
            for name, array in arrays.items():
                writer.append(name, array)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
