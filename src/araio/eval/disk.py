"""How fast a disk is read past the page cache, as experts of a store are: large pieces, a few at a time.

A temporary file is written and read again with `O_DIRECT`. Where the system or the file system has no such
reads, as in memory-backed folders, the speed stays unknown. What the device itself keeps in its own memory
cannot be told from what it reads.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from araio.costs.checks import require_positive
from araio.errors import CostError

__all__ = ["disk_speed"]

FILE_BYTES = 256 << 20
PIECE_BYTES = 4 << 20
READERS = 4
ROUNDS = 3


def disk_speed(folder: Path) -> float | None:
    """Bytes per second read from the disk of a folder; None where it cannot be read directly.

    Raises CostError where no temporary file can be written.
    """
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".araio-disk-") as file:
            piece = os.urandom(PIECE_BYTES)
            for _ in range(FILE_BYTES // PIECE_BYTES):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            return _read_speed(file.name)
    except OSError as error:
        raise CostError(
            f"{folder}: the disk cannot be measured ({error.strerror}); give its speed, as in --disk 3GB/s"
        ) from None


def _read_speed(name: str) -> float | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECT)
    except OSError:  # a file system in memory
        return None
    try:
        seconds = [_read_all(descriptor) for _ in range(ROUNDS)]
    finally:
        os.close(descriptor)
    require_positive(disk_seconds=min(seconds))
    return FILE_BYTES / median(seconds)


def _read_all(descriptor: int) -> float:
    """Seconds to read the whole file, the pieces handed out to some readers."""
    buffers = [mmap.mmap(-1, PIECE_BYTES) for _ in range(READERS)]  # aligned to pages

    def read(reader: int) -> None:
        for offset in range(reader * PIECE_BYTES, FILE_BYTES, READERS * PIECE_BYTES):
            if os.preadv(descriptor, [buffers[reader]], offset) != PIECE_BYTES:
                raise OSError("a temporary file ended early")

    started = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, range(READERS)))
    return time.perf_counter() - started
