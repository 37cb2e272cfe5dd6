"""Opening files for reads past the page cache, and saying which ones cannot be read so.

`direct` is Linux' O_DIRECT: the disk writes into our memory and the system keeps no copy, so that a budget
of memory is the whole truth. Some file systems have no such reads; `buffered` goes through the page cache
there and gives back what it took. Read `python_reader.py` for what is done with the descriptors.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from araio.disk.reader import BLOCK
from araio.errors import DiskError

__all__ = ["IO_MODES", "FileTable", "OpenFile"]

IO_MODES = ("auto", "direct", "buffered")


class OpenFile(NamedTuple):
    """A file that is read: its path for messages, its descriptor, whether that goes past the page cache."""

    path: str
    descriptor: int
    is_direct: bool


class FileTable:
    """The open files of a reader, by their numbers.

    io  one of `IO_MODES`; `auto` is direct where the file system can do it

    Raises DiskError for another io, and where a file cannot be opened so.
    """

    def __init__(self, io: str) -> None:
        if io not in IO_MODES:
            raise DiskError(f"io is {io!r}; expected one of {', '.join(IO_MODES)}")
        self._io = io
        self._files: list[OpenFile] = []
        self._adding = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> OpenFile:
        return self._files[number]

    @property
    def modes(self) -> tuple[str, ...]:
        return tuple("direct" if file.is_direct else "buffered" for file in self._files)

    def add(self, path: str | os.PathLike[str]) -> int:
        file = _open(os.fspath(path), self._io)
        with self._adding:
            self._files.append(file)
            return len(self._files) - 1

    def close(self) -> None:
        for file in self._files:
            os.close(file.descriptor)


def _open(name: str, io: str) -> OpenFile:
    with _named(name):
        # Before it is opened: opening a pipe would wait for its other end.
        if not stat.S_ISREG(Path(name).stat().st_mode):
            raise DiskError(f"{name}: is not a regular file; expected one that weights can be read from")
        descriptor = None if io == "buffered" else _open_direct(name)
        if descriptor is not None:
            return OpenFile(name, descriptor, is_direct=True)
        if io == "direct":
            raise DiskError(
                f"{name}: its file system has no reads past the page cache (O_DIRECT); "
                "use io auto or buffered, or copy the model to a local disk"
            )
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        # Nothing is read ahead: what nobody asked for would stay in the page cache.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return OpenFile(name, descriptor, is_direct=False)


def _open_direct(name: str) -> int | None:
    """A descriptor whose reads go past the page cache; None where there are none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None
    if _reads_blocks(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _reads_blocks(descriptor: int) -> bool:
    """Whether the file system takes our alignment; some accept the flag and then refuse every read."""
    with mmap.mmap(-1, BLOCK) as block:
        try:
            os.preadv(descriptor, [block], 0)
        except OSError as error:
            return error.errno != errno.EINVAL  # a disk that fails is reported when it is asked for something
    return True


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"{name}: cannot be opened ({error.strerror})") from None
