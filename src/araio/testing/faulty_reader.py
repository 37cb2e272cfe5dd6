"""`FaultyReader`: another reader with a disk that fails where a test wants it to.

    reader = FaultyReader(open_reader(), {2: Broken(), 5: Flipped(at=100), 6: Late(0.2)})

The numbers are those of the reads, counted from 0 as they are submitted. Everything else goes through.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import NamedTuple, TypeAlias

from araio.disk import failures
from araio.disk.reader import Counters, Done, Piece, Reader, Slot
from araio.disk.verify import verify
from araio.errors import DiskError

__all__ = ["Broken", "Fault", "FaultyReader", "Flipped", "Late", "Short"]


@dataclass(frozen=True)
class Broken:
    """The system refuses the first piece, with an errno."""

    code: int = errno.EIO


@dataclass(frozen=True)
class Short:
    """The file ends after `got` bytes of the first piece."""

    got: int = 0


@dataclass(frozen=True)
class Flipped:
    """A bit of byte `at` of the first piece comes wrong, which its checksum or its check may see."""

    at: int
    bit: int = 0


@dataclass(frozen=True)
class Late:
    """It takes so many seconds longer."""

    seconds: float


Fault: TypeAlias = Broken | Short | Flipped | Late


class _Read(NamedTuple):
    slot: Slot
    pieces: Sequence[Piece]
    crc32: int | None
    fault: Fault


class FaultyReader:
    """See `araio.disk.reader.Reader`.

    faults  by the number of the read
    """

    def __init__(self, reader: Reader, faults: Mapping[int, Fault]) -> None:
        self._reader, self._faults = reader, faults
        self._paths: list[str] = []
        self._submitted = 0
        self._struck: dict[int, _Read] = {}
        self._late: list[tuple[float, Done]] = []  # when they may be reported

    def add(self, path: str | PathLike[str]) -> int:
        number = self._reader.add(path)
        self._paths.append(fspath(path))
        return number

    @property
    def modes(self) -> tuple[str, ...]:
        return self._reader.modes

    @property
    def counters(self) -> Counters:
        return self._reader.counters

    def submit(
        self, tag: int, slot: Slot, pieces: Sequence[Piece], crc32: int | None = None, urgent: bool = False
    ) -> None:
        fault = self._faults.get(self._submitted)
        self._submitted += 1
        if fault is not None:
            self._struck[tag] = _Read(slot, pieces, crc32, fault)
        self._reader.submit(tag, slot, pieces, crc32, urgent)

    def promote(self, tag: int) -> None:
        self._reader.promote(tag)

    def cancel(self, tag: int) -> bool:
        is_dropped = self._reader.cancel(tag)
        if is_dropped:
            self._struck.pop(tag, None)
        return is_dropped

    def wait(self, timeout_s: float | None = None) -> list[Done]:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            moments = [moment for moment, _ in self._late] + ([] if end is None else [end])
            found = self._reader.wait(max(0.0, min(moments) - now) if moments else None)
            reported = [done for done in map(self._strike, found) if done is not None]
            now = time.monotonic()
            reported += [done for moment, done in self._late if moment <= now]
            self._late = [(moment, done) for moment, done in self._late if moment > now]
            if reported or (end is not None and now >= end) or not (found or self._late):
                return reported
            if not found and self._late:
                time.sleep(max(0.0, min(moments) - now))  # nothing else is in flight

    def drain(self) -> None:
        self._reader.drain()

    def close(self) -> None:
        self._reader.close()

    def _strike(self, done: Done) -> Done | None:
        """What is reported of a read instead; None where it is not yet."""
        read = self._struck.pop(done.tag, None)
        if read is None or done.error is not None:
            return done
        piece = read.pieces[0]
        path = self._paths[piece.file]
        match read.fault:
            case Broken(code):
                return Done(done.tag, failures.system_error(path, piece, code))
            case Short(got):
                return Done(done.tag, failures.short_read(path, piece, got))
            case Flipped(at, bit):
                read.slot[piece.target + at] ^= 1 << bit
                return Done(done.tag, self._verdict(read))
            case Late(seconds):
                self._late.append((time.monotonic() + seconds, done))
                return None

    def _verdict(self, read: _Read) -> DiskError | None:
        try:
            verify([self._paths[piece.file] for piece in read.pieces], read.pieces, read.slot, read.crc32)
        except DiskError as error:
            return error
        return None
