"""`NativeReader`: the compiled reader, whose threads need no interpreter and share the segments of a read.

This module opens the files, keeps slots alive, waits so that Ctrl-C comes through, and makes errors of what
C++ found. Read `csrc/read_queue.h` next.
"""

from __future__ import annotations

import enum
import importlib
import os
import time
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

from araio.disk import failures
from araio.disk.files import FileTable
from araio.disk.reader import Counters, Done, Piece, Slot, require_threads, require_usable
from araio.errors import DiskError

__all__ = ["NativeReader", "compiled"]

ENGINES = ("threads", "uring")

WAIT_S = 0.1  # between two looks for Ctrl-C


class _Cause(enum.IntEnum):
    """As in csrc/reads.h."""

    NONE = 0
    SYSTEM = 1
    SHORT = 2
    CHECKSUM = 3
    NUMBER = 4


class _Read(NamedTuple):
    slot: Slot
    pieces: Sequence[Piece]
    crc32: int | None


def compiled() -> ModuleType:
    """The compiled module; raises ImportError where it was not built."""
    return importlib.import_module("araio.disk._native")


class NativeReader:
    """See `reader.Reader`.

    io       one of `files.IO_MODES`
    threads  segments that are served at the same time
    engine   `threads`, or `uring`: Linux' io_uring, which docs/lab-notes.md found to be no faster

    Raises ImportError where the compiled module was not built, and DiskError where the engine cannot be had.
    """

    def __init__(self, io: str = "auto", threads: int = 4, engine: str = "threads") -> None:
        require_threads(threads)
        self._files = FileTable(io)
        self._native = _start(threads, engine)
        self._reads: dict[int, _Read] = {}  # until they are reported
        self._over: list[tuple[int, int, int, int]] = []  # what drain kept for wait
        self._process = os.getpid()
        # The reads are an argument so that no slot goes before the threads have ended.
        self._end = weakref.finalize(self, _end, self._native, self._files, self._reads)

    def add(self, path: str | os.PathLike[str]) -> int:
        self._require_open()
        number = self._files.add(path)
        file = self._files[number]
        self._native.add(file.descriptor, file.is_direct)
        return number

    @property
    def modes(self) -> tuple[str, ...]:
        return self._files.modes

    @property
    def counters(self) -> Counters:
        return Counters(*self._native.counters())

    def submit(
        self, tag: int, slot: Slot, pieces: Sequence[Piece], crc32: int | None = None, urgent: bool = False
    ) -> None:
        self._require_open()
        read = _Read(slot, tuple(pieces), crc32)
        if self._reads.setdefault(tag, read) is not read:
            raise ValueError(f"tag {tag} is in flight already")
        try:
            self._native.submit(tag, slot, read.pieces, crc32, urgent)
        except (TypeError, ValueError):
            del self._reads[tag]
            raise

    def promote(self, tag: int) -> None:
        self._require_open()
        self._native.promote(tag)

    def cancel(self, tag: int) -> bool:
        self._require_open()
        is_dropped: bool = self._native.cancel(tag)
        if is_dropped:
            del self._reads[tag]
        return is_dropped

    def wait(self, timeout_s: float | None = None) -> list[Done]:
        self._require_open()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = WAIT_S if end is None else min(WAIT_S, max(0.0, end - time.monotonic()))
            found, self._over = self._over or self._native.wait(left), []
            if found or not self._reads or not self._end.alive or left < WAIT_S:
                return [self._report(*one) for one in found]

    def drain(self) -> None:
        self._require_open()
        while not self._native.drain(WAIT_S):
            pass
        # Ctrl-C in `submit` or `wait` may have left reads that nobody will report.
        self._over += self._native.wait(0.0)
        for tag in self._reads.keys() - {tag for tag, *_ in self._over}:
            del self._reads[tag]

    def close(self) -> None:
        self._end()

    def _report(self, tag: int, cause: int, piece: int, value: int) -> Done:
        read = self._reads.pop(tag)
        return Done(tag, None if cause == _Cause.NONE else self._error(read, cause, piece, value))

    def _error(self, read: _Read, cause: int, number: int, value: int) -> DiskError:
        piece = read.pieces[number]
        path = self._files[piece.file].path
        if cause == _Cause.SYSTEM:
            return failures.system_error(path, piece, value)
        if cause == _Cause.SHORT:
            return failures.short_read(path, piece, value)
        if cause == _Cause.NUMBER:
            return failures.bad_number(path, piece, value)
        assert cause == _Cause.CHECKSUM
        assert read.crc32 is not None
        paths = [self._files[one.file].path for one in read.pieces]
        return failures.wrong_checksum(paths, read.pieces, value, read.crc32)

    def _require_open(self) -> None:
        require_usable(self._end.alive, self._process)


def _start(threads: int, engine: str) -> Any:
    """The compiled reader, with its threads running."""
    if engine not in ENGINES:
        raise DiskError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
    try:
        return compiled().DiskReader(threads, by_ring=engine == "uring")
    except OSError as error:
        raise DiskError(
            f"{threads} {engine} cannot be started ({error.strerror}); use fewer, or engine threads"
        ) from None


def _end(native: Any, files: FileTable, reads: dict[int, _Read]) -> None:
    """Stop the threads, which do nothing in the child of a fork, and close the files."""
    native.close()
    files.close()
    reads.clear()
