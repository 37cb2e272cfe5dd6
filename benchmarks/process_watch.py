"""What a process takes, seen from outside: bytes from the disk, memory of its own, page cache of its files.

The page cache is nobody's, and no count of a process shows it. So it is asked of the files, page by page. All
of this is Linux's own bookkeeping.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Memory", "cached_bytes", "drop_from_cache", "memory_of", "read_bytes"]


@dataclass(frozen=True)
class Memory:
    """Bytes.

    own     memory of the process that no file stands behind
    peak    the most that it had in memory at once, mapped files included
    cached  of its files in the page cache, mapped or not
    """

    own: int
    peak: int
    cached: int

    @property
    def total(self) -> int:
        """What it occupies of the machine now."""
        return self.own + self.cached


def read_bytes(pid: int) -> int:
    """Bytes that a process had read from disks, by itself or by touching mapped files."""
    return _field(Path(f"/proc/{pid}/io"), "read_bytes:")


def memory_of(pid: int, files: Iterable[Path]) -> Memory:
    """What a process takes now."""
    status = Path(f"/proc/{pid}/status")
    own = _field(status, "RssAnon:") + _field(status, "RssShmem:")
    return Memory(own * 1024, _field(status, "VmHWM:") * 1024, sum(map(cached_bytes, files)))


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in the page cache."""
    size = path.stat().st_size
    if not size:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with path.open("rb") as file:
        # Private and writable, for ctypes to take its address; nothing is written.
        mapped = mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        first = ctypes.c_char.from_buffer(mapped)
        failed = libc.mincore(ctypes.addressof(first), size, pages.ctypes.data)
        del first
        mapped.close()
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore: {os.strerror(ctypes.get_errno())}", str(path))
    return int(np.count_nonzero(pages & 1)) * mmap.PAGESIZE


def drop_from_cache(files: Iterable[Path]) -> None:
    """Have the page cache forget files; what a process has mapped and touched may stay."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # only clean pages can go
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _field(path: Path, name: str) -> int:
    line = next(line for line in path.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1])
