"""A folder for a trace in the making: one process at a time, and nothing of anybody else's in it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from araio.errors import TraceError
from araio.traces.header import HEADER_NAME, PARTIAL_SUFFIX

__all__ = ["claim", "storage_errors", "take_name"]

REPLACED_SUFFIX = ".replaced"

_OURS = re.compile(r"(tokens|draft|counts|cache)[-.].*|trace\.json|\.trace\.json-.*")


@contextmanager
def storage_errors(out: Path) -> Iterator[None]:
    """What a disk refuses, as a TraceError that names the trace."""
    try:
        yield
    except OSError as error:
        raise TraceError(
            f"{out}: the trace could not be written ({error.strerror}); make room, or choose another folder"
        ) from error


def claim(out: Path, overwrite: bool = False) -> tuple[int, Path]:
    """An empty folder beside the trace's name, held for this process; the system lets go of it at its end.

    overwrite  a trace may have the name

    Returns:
        a descriptor that holds it while it is open, and the folder

    Raises TraceError when the name is taken, or something lies in the way, and OSError.
    """
    if overwrite and out.exists() and not (out / HEADER_NAME).is_file():
        raise TraceError(f"{out}: is not a trace, so it is not replaced by one; give another name")
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise TraceError(f"{out}: exists already; delete it, or give another name")
    folder = out.with_name(out.name + PARTIAL_SUFFIX)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TraceError(
                f"{folder}: another process is recording this trace; give another name"
            ) from None
        _clear(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, folder


def take_name(folder: Path, out: Path) -> None:
    """Give a complete trace its name, where another one may be; that one goes last. Raises OSError."""
    earlier = out.with_name(out.name + REPLACED_SUFFIX)
    if out.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        out.rename(earlier)
    folder.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Remove what a recording that was killed left."""
    left = list(folder.iterdir())
    foreign = [path.name for path in left if not _OURS.fullmatch(path.name) or path.is_dir()]
    if foreign:
        raise TraceError(
            f"{folder}: is in the way, and holds {foreign[0]!r}, which is no trace's; move it elsewhere"
        )
    for path in left:
        path.unlink()
