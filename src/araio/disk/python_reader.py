"""`PythonReader`: the plain reader, in Python threads, for where no compiler exists; the tests' reference.

A thread takes the read that is next, fetches its pieces one after the other, and checks them. `_Queue` is
what threads and callers share, and knows nothing of files. The compiled reader (`native_reader.py`) behaves
the same, but cuts a read so that several threads work on it.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from araio.disk import failures
from araio.disk.files import FileTable, OpenFile
from araio.disk.reader import (
    BLOCK,
    Counters,
    Done,
    Piece,
    Slot,
    require_fitting,
    require_threads,
    require_usable,
)
from araio.disk.verify import verify
from araio.errors import DiskError

__all__ = ["PythonReader"]

LARGEST_FOLIO = 2 << 20  # in which the system keeps files in its page cache
BOUNCE_BYTES = 1 << 20  # of a thread's buffer for what is not aligned


@dataclass(frozen=True, slots=True)
class _Read:
    tag: int
    slot: Slot
    pieces: Sequence[Piece]
    crc32: int | None


class PythonReader:
    """See `reader.Reader`.

    io       one of `files.IO_MODES`
    threads  reads that are served at the same time
    """

    def __init__(self, io: str = "auto", threads: int = 4) -> None:
        require_threads(threads)
        self._files = FileTable(io)
        self._queue = _Queue()
        self._process = os.getpid()
        # Threads know the queue and the files and not the reader, which could never be collected otherwise.
        workers = [
            threading.Thread(target=_serve, args=(self._queue, self._files), daemon=True)
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        self._end = weakref.finalize(self, _end, self._process, self._queue, workers, self._files)

    def add(self, path: str | os.PathLike[str]) -> int:
        self._require_open()
        return self._files.add(path)

    @property
    def modes(self) -> tuple[str, ...]:
        return self._files.modes

    @property
    def counters(self) -> Counters:
        return self._queue.counters()

    def submit(
        self, tag: int, slot: Slot, pieces: Sequence[Piece], crc32: int | None = None, urgent: bool = False
    ) -> None:
        self._require_open()
        require_fitting(slot, pieces, len(self._files))
        self._queue.put(_Read(tag, slot, tuple(pieces), crc32), urgent)

    def promote(self, tag: int) -> None:
        self._require_open()
        self._queue.promote(tag)

    def cancel(self, tag: int) -> bool:
        self._require_open()
        return self._queue.cancel(tag)

    def wait(self, timeout_s: float | None = None) -> list[Done]:
        self._require_open()
        return self._queue.take_done(timeout_s)

    def drain(self) -> None:
        self._require_open()
        self._queue.drain()

    def close(self) -> None:
        self._end()

    def _require_open(self) -> None:
        require_usable(self._end.alive, self._process)


class _Queue:
    """Reads that wait, run and are done, behind one lock."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._urgent: OrderedDict[int, _Read] = OrderedDict()
        self._speculative: OrderedDict[int, _Read] = OrderedDict()
        self._running: set[int] = set()
        self._done: list[Done] = []
        self._unreported: dict[int, _Read] = {}  # all of these; keeps their slots alive
        self.is_stopping = False
        self._reads = self._bytes = 0
        self._busy_s = self._busy_since = 0.0

    def put(self, read: _Read, urgent: bool) -> None:
        with self._changed:
            if read.tag in self._unreported:
                raise ValueError(f"tag {read.tag} is in flight already")
            if self._in_flight() == 0:
                self._busy_since = time.monotonic()
            self._unreported[read.tag] = read
            (self._urgent if urgent else self._speculative)[read.tag] = read
            self._changed.notify_all()

    def promote(self, tag: int) -> None:
        with self._changed:
            if tag in self._speculative:
                self._urgent[tag] = self._speculative.pop(tag)

    def cancel(self, tag: int) -> bool:
        with self._changed:
            read = self._urgent.pop(tag, None) or self._speculative.pop(tag, None)
            if read is None:
                return False
            del self._unreported[tag]
            self._left()
            return True

    def next(self) -> _Read | None:
        """The read that is to be served now, when there is one; None when the reader is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_stopping or self._urgent or self._speculative)
            if self.is_stopping:
                return None
            _, read = (self._urgent or self._speculative).popitem(last=False)
            self._running.add(read.tag)
            return read

    def add_bytes(self, size: int) -> None:
        with self._changed:
            self._bytes += size

    def finish(self, read: _Read, error: DiskError | None) -> None:
        with self._changed:
            self._running.remove(read.tag)
            self._done.append(Done(read.tag, error))
            self._reads += 1
            self._left()

    def take_done(self, timeout_s: float | None) -> list[Done]:
        with self._changed:
            self._changed.wait_for(lambda: self._done or not self._in_flight(), timeout_s)
            done, self._done = self._done, []
            for one in done:
                del self._unreported[one.tag]
            return done

    def drain(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight())
            # What Ctrl-C kept from being reported, or from being put in line, is free again.
            done = {one.tag for one in self._done}
            self._unreported = {tag: read for tag, read in self._unreported.items() if tag in done}

    def stop(self) -> None:
        with self._changed:
            self.is_stopping = True
            while self._urgent or self._speculative:
                (self._urgent or self._speculative).popitem()
                self._left()
            self._changed.notify_all()

    def counters(self) -> Counters:
        with self._changed:
            running = time.monotonic() - self._busy_since if self._in_flight() else 0.0
            return Counters(self._reads, self._bytes, self._busy_s + running)

    def _in_flight(self) -> int:
        return len(self._urgent) + len(self._speculative) + len(self._running)

    def _left(self) -> None:
        """A read is no longer in flight."""
        if self._in_flight() == 0:
            self._busy_s += time.monotonic() - self._busy_since
        self._changed.notify_all()


def _serve(queue: _Queue, files: FileTable) -> None:
    """A thread's life."""
    bounce = memoryview(mmap.mmap(-1, BOUNCE_BYTES))  # begins at a page
    while (read := queue.next()) is not None:
        error = None
        try:
            for piece in read.pieces:
                if queue.is_stopping:
                    break
                queue.add_bytes(_fetch(files[piece.file], piece, read.slot, bounce))
            verify([files[piece.file].path for piece in read.pieces], read.pieces, read.slot, read.crc32)
        except DiskError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - a thread that ends without a word is waited for for ever
            error = DiskError(f"{files[read.pieces[0].file].path}: could not be read ({failure!r})")
        queue.finish(read, error)
        del read  # and with it the slot


def _fetch(file: OpenFile, piece: Piece, slot: Slot, bounce: memoryview) -> int:
    """One piece into its slot; the bytes that were read for it. Raises DiskError."""
    if piece.size == 0:
        return 0
    target = slot[piece.target : piece.target + piece.size]
    is_aligned = (piece.offset | piece.size | target.ctypes.data) % BLOCK == 0
    try:
        if not file.is_direct or is_aligned:
            got = read_bytes = _read(file.descriptor, target.data, piece.offset)
        else:
            got, read_bytes = _fetch_around(file.descriptor, piece, target, bounce)
    except OSError as error:
        raise failures.system_error(file.path, piece, error.errno or 0) from None
    if not file.is_direct:
        # Only what lies in the range as a whole is given back, and the system may keep files in large pieces.
        begin, end = _widen(piece)
        begin = max(0, begin - LARGEST_FOLIO)
        os.posix_fadvise(file.descriptor, begin, end + LARGEST_FOLIO - begin, os.POSIX_FADV_DONTNEED)
    if got < piece.size:
        raise failures.short_read(file.path, piece, got)
    return read_bytes


def _fetch_around(descriptor: int, piece: Piece, target: Slot, bounce: memoryview) -> tuple[int, int]:
    """A piece by way of whole blocks around it: bytes of the piece, and bytes that were read."""
    begin, end = _widen(piece)
    got = read_bytes = 0
    for block in range(begin, end, BOUNCE_BYTES):
        content = bounce[: min(BOUNCE_BYTES, end - block)]
        size = _read(descriptor, content, block)
        read_bytes += size
        first = max(piece.offset, block)
        last = min(piece.offset + piece.size, block + size)
        if last > first:
            target[first - piece.offset : last - piece.offset] = content[first - block : last - block]
            got += last - first
        if size < len(content):
            break  # the end of the file
    return got, read_bytes


def _widen(piece: Piece) -> tuple[int, int]:
    """The range of whole blocks that holds a piece."""
    return piece.offset // BLOCK * BLOCK, -(-(piece.offset + piece.size) // BLOCK) * BLOCK


def _read(descriptor: int, content: memoryview, offset: int) -> int:
    """Fill `content` from a place in the file; fewer bytes only where the file ends."""
    got = 0
    while got < len(content):
        # A direct read that stopped early goes on at a block; at the end of the file it gives the same again.
        at = got // BLOCK * BLOCK
        size = at + os.preadv(descriptor, [content[at:]], offset + at)
        if size <= got:
            break
        got = size
    return got


def _end(process: int, queue: _Queue, workers: Sequence[threading.Thread], files: FileTable) -> None:
    """Stop the threads and close the files; in the child of a fork there are no threads, only descriptors."""
    if process == os.getpid():
        queue.stop()
        for worker in workers:
            if worker is not threading.current_thread():  # where the collector of garbage happened to run
                worker.join()
    files.close()
