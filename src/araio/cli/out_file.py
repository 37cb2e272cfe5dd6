"""`check_out`: whether a file can be written where it was asked for, told before long work."""

from __future__ import annotations

import os
from pathlib import Path

from araio.errors import RequestError

__all__ = ["check_out"]


def check_out(path: Path | None, option: str) -> None:
    """Look at the folder that a file shall go to; nothing is made or touched.

    path    as it was given; None where it was not
    option  by which it was given, for the message

    Raises RequestError for a folder that is not there or may not be written to, and for one in its place.
    """
    if path is None:
        return
    path = path.expanduser()
    if path.is_dir():
        raise RequestError(f"{option} {path}: is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise RequestError(
            f"{option} {path}: there is no folder {path.parent}; make it, or name another place"
        )
    if not os.access(path.parent, os.W_OK):
        raise RequestError(
            f"{option} {path}: the folder {path.parent} may not be written to; name another one"
        )
