"""Memory for weights: in huge pages where the system has them.

A weight is read from end to end for every token. In pages of 4 KiB the processor looks up an address for
every 64 vectors and stops reading ahead at every border; an array below 4 MiB, as an expert's matrix is, gets
such pages from NumPy. So weights share chunks that ask for pages of 2 MiB.
"""

from __future__ import annotations

import mmap
from threading import Lock

import numpy as np
import numpy.typing as npt

__all__ = ["Arena", "weight_memory"]

HUGE_PAGE = 2 << 20
CHUNK = 64 << 20
CACHE_LINE = 64


class _Chunks:
    """Hands out pieces of a chunk; a chunk is given back when nobody holds a piece of it any more."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._chunk = np.empty(0, np.uint8)

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        room = -(-size // CACHE_LINE) * CACHE_LINE
        if room > CHUNK // 4:
            return _huge(room)[:size]
        with self._lock:
            if room > len(self._chunk):
                self._chunk = _huge(CHUNK)
            piece, self._chunk = self._chunk[:size], self._chunk[room:]
        return piece


def _huge(size: int) -> npt.NDArray[np.uint8]:
    """At least `size` bytes that begin with a huge page."""
    if size == 0:
        return np.empty(0, np.uint8)
    pages, start = _map(size)
    return np.frombuffer(pages, np.uint8)[start : start + size]


def _map(size: int) -> tuple[mmap.mmap, int]:
    """Pages for `size` bytes, and the byte of them that begins a huge page."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Shared memory, the default, gets no huge pages.
        pages = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages.madvise(mmap.MADV_HUGEPAGE)
    else:
        pages = mmap.mmap(-1, size + HUGE_PAGE)
    return pages, -np.frombuffer(pages, np.uint8).ctypes.data % HUGE_PAGE


class Arena:
    """One piece of memory that the system backs where it is written, and that can be given back in parts.

    content  (bytes,) writable; it begins with a page, and with a huge page where the system has them
    """

    def __init__(self, size: int) -> None:
        pages, start = _map(size)
        self._pages, self._start = pages, start
        self.content = np.frombuffer(pages, np.uint8)[start : start + size]

    def give_back(self, begin: int, end: int) -> None:
        """Forget what lies in a range of whole pages; it takes no memory until it is written again."""
        self._pages.madvise(mmap.MADV_DONTNEED, self._start + begin, end - begin)


_chunks = _Chunks()


def weight_memory(size: int) -> npt.NDArray[np.uint8]:
    """Bytes of their own, writable, at the beginning of a cache line."""
    return _chunks.take(size)
