"""`open_reader`: the compiled reader where it was built, else the plain one; and which it is, for `araio doctor`."""

from __future__ import annotations

from araio.disk.python_reader import PythonReader
from araio.disk.reader import Reader

__all__ = ["open_reader"]

THREADS = 4


def open_reader(io: str = "auto", threads: int = THREADS) -> Reader:
    """A reader of files.

    io       `auto`: past the page cache where the file system can do it; `direct`: so or not at all; `buffered`
    threads  reads that are served at the same time

    Raises DiskError for another `io`.
    """
    return PythonReader(io, threads)
