"""`TraceWriter`: a folder in which a trace grows while a model runs, until it takes its name.

`add` keeps what it is given and does the work of many tokens at once, every few thousand. Files grow in
`NAME.partial`; `close` completes them, writes `trace.json` last and renames the folder, so that whatever has
the name is complete. A trace that is there already is not touched, or, where that was asked for, replaced by
a complete one. What a killed process left behind is no trace, and the next recording of that name clears it
away. Read `spool.py` for how shards come about,
`trace.py` for the way back.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.atomic import flush_folder, write_text
from araio.errors import TraceError
from araio.formats.safetensors import STORED_TYPES
from araio.formats.tensor_file import TensorFileWriter
from araio.traces.blocks import block_of, optional_columns, row_count
from araio.traces.columns import CACHE_COLUMNS, CacheEvents, Rows
from araio.traces.counts import COUNTS_COLUMNS, Tally
from araio.traces.header import HEADER_NAME, PARTIAL_SUFFIX, TraceFiles, TraceHeader, header_text
from araio.traces.spool import Spool

__all__ = ["CACHE_FILE", "COUNTS_FILE", "TraceWriter"]

COUNTS_FILE = "counts.safetensors"
REPLACED_SUFFIX = ".replaced"
CACHE_FILE = "cache.safetensors"

# Enough that the work for a block is spread thin, and little enough that a step hardly waits for it.
BLOCK_ROWS = 2048
_OURS = re.compile(r"(tokens|draft|counts|cache)[-.].*|trace\.json|\.trace\.json-.*")

Array = npt.NDArray[Any]


class TraceWriter:
    """A trace in the making; a context that closes it, also when what runs in it fails.

    folder          the trace's name, which must be free
    header          its columns follow from the first rows
    rows_per_shard  of a file
    overwrite       a trace of that name may be there: it goes when this one is complete

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
        self._pending: list[Rows] = []
        self._pending_rows = 0
        self._pending_drafts: list[Rows] = []
        self._cache_events = 0
        self._tally: Tally | None = None
        self._is_open = False
        with _storage_errors(self.out):
            self._descriptor, self._folder = _claimed(self.out, overwrite)
        self._is_open = True
        self._tokens = Spool(self._folder, "tokens", rows_per_shard)
        self._drafts = Spool(self._folder, "draft", rows_per_shard)
        self._events = Spool(self._folder, "cache", 1 << 62)

    def name_domains(self, names: Sequence[str]) -> None:
        """Name the domains that rows count: those of before, and others behind them.

        Raises TraceError for names that no header can have.
        """
        with self._lock:
            assert self._tally is None or tuple(names[: len(self.header.domains)]) == self.header.domains
            self.header = replace(self.header, domains=tuple(names))
            if self._tally is not None:
                self._tally.grow(len(names))

    def add(self, rows: Rows) -> None:
        """Add tokens that ran; their arrays must not change any more.

        Raises TraceError, now or some rows later, for rows that contradict the header or earlier ones, and
        when the disk refuses.
        """
        with self._lock:
            self._expect(rows)
            self._pending.append(rows)
            self._pending_rows += row_count(rows)
            self.tokens += row_count(rows)
            if self._pending_rows >= BLOCK_ROWS:
                self._flush()

    def add_draft(self, rows: Rows) -> None:
        """Add tokens that ran through the layers that draft; raises as `add` does."""
        with self._lock:
            self._expect(rows)
            self._pending_drafts.append(rows)
            if len(self._pending_drafts) >= BLOCK_ROWS:
                self._flush()

    def add_cache_events(self, events: CacheEvents) -> None:
        """Add what became of experts; `tokens` is the time. Raises TraceError when the disk refuses."""
        with self._lock, _storage_errors(self.out):
            self._check_open()
            if len(events.t):
                columns = {
                    name: np.asarray(column, STORED_TYPES[CACHE_COLUMNS[name]])
                    for name, column in zip(CACHE_COLUMNS, events, strict=True)
                }
                self._events.add(columns)
                self._cache_events += len(events.t)

    def close(self) -> None:
        """Complete the trace and give it its name; once is enough, more does no harm.

        Raises TraceError when there is nothing to keep, and when the disk refuses.
        """
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            try:
                with _storage_errors(self.out):
                    self._finish()
            finally:
                os.close(self._descriptor)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.tokens:
            self.discard()
        else:
            self.close()

    def discard(self) -> None:
        """Forget what was recorded."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._descriptor)
                shutil.rmtree(self._folder, ignore_errors=True)

    # ------------------------------------------------------------------ rows to files

    def _expect(self, rows: Rows) -> None:
        self._check_open()
        if self._tally is None:
            self.header = replace(self.header, columns=optional_columns(rows))
            layers = len(self.header.layers) or len(rows.expert_ids)
            self._tally = Tally(len(self.header.domains), layers, self.header.n_routed_experts)

    def _check_open(self) -> None:
        if not self._is_open:
            raise TraceError(f"{self.out}: is closed; nothing more can be recorded into it")

    def _flush(self) -> None:
        with _storage_errors(self.out):
            if self._pending:
                pending, self._pending, self._pending_rows = self._pending, [], 0
                block = block_of(self.header, pending)
                self._count(block)
                self._tokens.add(block)
            if self._pending_drafts:
                drafts, self._pending_drafts = self._pending_drafts, []
                self._drafts.add(block_of(self.header, drafts))

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

    def _finish(self) -> None:
        self._flush()
        if not self.tokens:
            shutil.rmtree(self._folder)
            raise TraceError(f"{self.out}: nothing was recorded, so there is no trace")
        for spool in (self._tokens, self._drafts, self._events):
            spool.finish()
        if self._cache_events:
            (self._folder / "cache-00000.safetensors").rename(self._folder / CACHE_FILE)
        self._write_counts()
        files = TraceFiles(tuple(self._tokens.shards), tuple(self._drafts.shards), self._cache_events)
        write_text(self._folder / HEADER_NAME, header_text(self.header, files))
        _take_name(self._folder, self.out)
        flush_folder(self.out.parent)

    def _write_counts(self) -> None:
        assert self._tally is not None
        counts = self._tally.counts()
        arrays = {name: getattr(counts, name) for name in COUNTS_COLUMNS}
        tensors = {name: (COUNTS_COLUMNS[name], array.shape) for name, array in arrays.items()}
        with TensorFileWriter(self._folder / COUNTS_FILE, tensors) as writer:
            for name, array in arrays.items():
                writer.append(name, array)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _storage_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TraceError(
            f"{out}: the trace could not be written ({error.strerror}); make room, or choose another folder"
        ) from error


def _take_name(folder: Path, out: Path) -> None:
    """Give a complete trace its name, where another trace may be; that one goes last."""
    earlier = out.with_name(out.name + REPLACED_SUFFIX)
    if out.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        out.rename(earlier)
    folder.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)


def _claimed(out: Path, overwrite: bool) -> tuple[int, Path]:
    """An empty folder beside the trace's name, held for this process; the system lets go of it at its end."""
    if overwrite and out.exists() and not (out / HEADER_NAME).is_file():
        raise TraceError(f"{out}: is not a trace, so it is not replaced by one; give another name")
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise TraceError(f"{out}: exists already; delete it, or give another name")
    folder = out.with_name(out.name + PARTIAL_SUFFIX)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TraceError(
                f"{folder}: another process is recording this trace; give another name"
            ) from None
        _clear(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, folder


def _clear(folder: Path) -> None:
    """Remove what a recording that was killed left."""
    left = list(folder.iterdir())
    foreign = [path.name for path in left if not _OURS.fullmatch(path.name) or path.is_dir()]
    if foreign:
        raise TraceError(
            f"{folder}: is in the way, and holds {foreign[0]!r}, which is no trace's; move it elsewhere"
        )
    for path in left:
        path.unlink()
