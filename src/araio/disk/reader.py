"""`Reader`: ranges of files into memory, past the page cache, by threads that run beside the caller.

    reader = open_reader()                                    # select.py
    file = reader.add("experts-00003.safetensors")
    reader.submit(7, slot, [Piece(file, offset, size, target=0)], urgent=True)
    for done in reader.wait():                                # done.tag == 7
        if done.error is not None:
            raise done.error

A read is one or more pieces that go to one slot, under a tag that the caller chooses. Two classes implement
the protocol with equal behaviour: `native_reader.NativeReader` is compiled, `python_reader.PythonReader` is
the plain one and the tests' reference. What is refused: a request that does not fit its slot, a tag that is
in flight already, and any call after `close` or in the child of a fork.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from araio.errors import DiskError

__all__ = [
    "BLOCK",
    "Check",
    "Counters",
    "Done",
    "Piece",
    "Reader",
    "Slot",
    "require_fitting",
    "require_threads",
    "require_usable",
]

BLOCK = 4096  # what a read past the page cache may begin at: in the file, in memory, and in size

MAX_THREADS = 1024
FARTHEST = 1 << 62  # a place in a file; leaves room to add a size

Slot = npt.NDArray[np.uint8]
"""Writable, contiguous bytes (N,) that a read fills."""


class Check(enum.IntEnum):
    """What the numbers of a piece are tested for; they lie one after the other, little-endian.

    A number that is NaN or infinite makes the read an error; of a scale, zero and below as well. FP8 is
    e4m3fn, which has no infinity.
    """

    NONE = 0
    F32 = 1
    BF16 = 2
    F16 = 3
    FP8 = 4
    SCALE = 5  # float32

    @property
    def bytes(self) -> int:
        """Of one number."""
        return (1, 4, 2, 2, 1, 4)[self]


class Piece(NamedTuple):
    """Bytes [offset, offset + size) of a file that go to slot[target : target + size].

    file  as `Reader.add` numbered it

    Nothing need be aligned. Where the place in the file, the place in memory and the size are multiples of
    `BLOCK`, the bytes go straight into the slot; elsewhere through a buffer.
    """

    file: int
    offset: int
    size: int
    target: int
    check: Check = Check.NONE


@dataclass(frozen=True, slots=True)
class Done:
    """A read that is over: the slot holds what was asked for, or there is an error and the slot is undefined.

    error  names the file, the range of bytes and the cause
    """

    tag: int
    error: DiskError | None


@dataclass(frozen=True, slots=True)
class Counters:
    """What a reader has done so far.

    reads         that are over, failed ones included
    bytes         that files gave, with what an unaligned read takes at both ends
    busy_seconds  during which at least one read was in flight
    """

    reads: int
    bytes: int
    busy_seconds: float


class Reader(Protocol):
    """Reads that run while the caller computes. Any thread may call any method."""

    def add(self, path: str | PathLike[str]) -> int:
        """Open a file; its number, from 0.

        Raises DiskError where it cannot be opened, is no regular file, or has no mode that was asked for.
        """

    @property
    def modes(self) -> tuple[str, ...]:
        """How each file is read: `direct`, past the page cache, or `buffered`, through it and out again."""

    @property
    def counters(self) -> Counters:
        """Of this moment."""

    def submit(
        self, tag: int, slot: Slot, pieces: Sequence[Piece], crc32: int | None = None, urgent: bool = False
    ) -> None:
        """Begin a read, which `wait` reports when it is over; never blocks.

        crc32   checksum of the bytes of all pieces in their order, as `zlib.crc32` has it
        urgent  goes before every read that is not; among equals the first comes first

        The slot is kept alive until the read is reported, and belongs to the reader until then. Raises
        ValueError for pieces that do not fit the slot, and for a tag in flight.
        """

    def promote(self, tag: int) -> None:
        """Make a read urgent, as if it had been submitted so now; nothing happens to one that is over."""

    def cancel(self, tag: int) -> bool:
        """Drop a read that has not begun.

        True: nothing is written to its slot, nothing is reported, the tag is free. False: it has begun or is
        over, and will be reported as usual.
        """

    def wait(self, timeout_s: float | None = None) -> list[Done]:
        """Reads that are over and not yet reported, as they ended; blocks until there is one.

        Empty when the time is over, and at once when nothing is in flight. Ctrl-C comes through.
        """

    def drain(self) -> None:
        """Block until nothing is in flight; `wait` still reports what was.

        Whatever Ctrl-C interrupted, every tag is free once that is reported. No other thread may wait
        meanwhile.
        """

    def close(self) -> None:
        """End the threads: what has begun is read to the end, the rest is dropped, nothing more is reported.

        No slot is written to afterwards. Happens by itself when the reader is collected or the process ends.
        """


def require_fitting(slot: Slot, pieces: Sequence[Piece], files: int) -> None:
    """Raise ValueError unless the pieces lie in files that exist and in the slot."""
    if slot.dtype != np.uint8 or slot.ndim != 1 or not slot.flags.c_contiguous or not slot.flags.writeable:
        raise ValueError("a slot must be writable, contiguous bytes (N,)")
    if not pieces:
        raise ValueError("a read has at least one piece")
    for piece in pieces:
        if not 0 <= piece.file < files:
            raise ValueError(f"{piece}: there are {files} files")
        if not 0 <= piece.offset <= FARTHEST or piece.size < 0 or piece.size % Check(piece.check).bytes:
            raise ValueError(f"{piece}: must be a range of whole numbers")
        if piece.target < 0 or piece.target + piece.size > len(slot):
            raise ValueError(f"{piece}: does not fit a slot of {len(slot)} bytes")


def require_threads(threads: int) -> None:
    """Raise ValueError for a number of threads that cannot be."""
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is {threads}; expected a number from 1 to {MAX_THREADS}")


def require_usable(is_open: bool, process: int) -> None:
    """Raise for a reader that is closed, or whose threads another process has."""
    if not is_open:
        raise ValueError("the reader is closed")
    if process != os.getpid():
        raise RuntimeError("a reader has no threads in the child of a fork; open another one there")
