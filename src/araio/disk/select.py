"""`open_reader`: the compiled reader where it was built, else the plain one; `serving` says which and why."""

from __future__ import annotations

import os

from araio.disk.files import IO_MODES
from araio.disk.native_reader import NativeReader, compiled
from araio.disk.python_reader import PythonReader
from araio.disk.reader import Reader
from araio.errors import DiskError

__all__ = ["IO_CHOICES", "THREADS", "open_reader", "require_io", "serving"]

IO_CHOICES = (*IO_MODES, "uring")

# One for each processor up to eight: fewer leave a fast disk idle, more only take time from who computes.
THREADS = max(2, min(os.cpu_count() or 1, 8))


def open_reader(io: str = "auto", threads: int = THREADS) -> Reader:
    """A reader of files.

    io       `auto`: past the page cache where the file system can do it; `direct`: so or not at all;
             `buffered`: through it, and out again; `uring`: direct, by Linux' io_uring instead of threads
    threads  that serve reads at the same time

    Raises DiskError for another `io`, and for `uring` where there is none.
    """
    require_io(io)
    is_ring = io == "uring"
    try:
        if is_ring:
            return NativeReader("direct", threads, engine="uring")
        return NativeReader(io, threads)
    except ImportError:
        if is_ring:
            raise DiskError("io uring needs the compiled reader, which is missing; take direct") from None
        return PythonReader(io, threads)


def require_io(io: str) -> None:
    """Raise DiskError for a way of reading that is unknown."""
    if io not in IO_CHOICES:
        raise DiskError(f"io is {io!r}; expected one of {', '.join(IO_CHOICES)}")


def serving() -> str:
    """How files are read here, as one sentence."""
    try:
        compiled()
    except ImportError as error:
        return (
            f"Python threads (the compiled reader is missing: {error}; install a C++17 compiler, "
            "then reinstall araio)"
        )
    return "compiled threads"
