"""Text files that are replaced whole: whatever happens, a reader finds the old content or the new one.

`write_text` writes beside the file, flushes to the disk and renames; `flush_folder` makes renames last. Read
`formats/write.py` next for how a checkpoint of many files is replaced.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["flush_folder", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Replace a file's content by UTF-8 text in one step.

    Raises OSError; the old content still stands then, unless flushing the folder failed at the very end.
    """
    path = path.resolve()  # a link stays a link
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, before it gets its name
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=f".{path.name}-", delete=False
    )
    staged = Path(handle.name)
    try:
        with handle:
            handle.write(text)
            handle.flush()
            os.fchmod(handle.fileno(), _mode(path))
            os.fsync(handle.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def _mode(path: Path) -> int:
    """Permissions of the file that is replaced, or of a new one; temporary files are for their owner only."""
    return path.stat().st_mode & 0o777 if path.exists() else 0o644


def flush_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
