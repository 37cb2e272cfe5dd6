"""`staged`: a file that is written beside its name and gets it when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from araio.atomic import flush_folder
from araio.errors import TraceError

__all__ = ["staged"]


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Where to write; afterwards it replaces `path`, unless something failed.

    Raises TraceError when the disk refuses.
    """
    try:
        with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            yield written
            with written.open("rb") as handle:
                os.fsync(handle.fileno())
            written.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise TraceError(
            f"{path}: could not be written ({error.strerror}); make room, or choose another place"
        ) from error
