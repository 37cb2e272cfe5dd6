"""What can go wrong with a read, as errors that name the file, the bytes, the cause and the remedy."""

from __future__ import annotations

import os
from collections.abc import Sequence

from araio.disk.reader import Check, Piece
from araio.errors import DiskError

__all__ = ["bad_number", "short_read", "system_error", "wrong_checksum"]

_REMEDY = "the file is damaged; download or convert it again"


def short_read(path: str, piece: Piece, got: int) -> DiskError:
    """A file that gave only the first `got` bytes of a piece."""
    return DiskError(
        f"{path}: ends inside {_range(piece)}, after {got} of them; the file has shrunk since it was opened"
    )


def system_error(path: str, piece: Piece, code: int) -> DiskError:
    """A read that the system refused or the disk failed; `code` is an errno."""
    return DiskError(
        f"{path}: {_range(piece)} cannot be read ({os.strerror(code)}); "
        "the system's log may tell more, and a copy on another disk may help"
    )


def wrong_checksum(paths: Sequence[str], pieces: Sequence[Piece], found: int, expected: int) -> DiskError:
    """Bytes that are not those the checksum was made of."""
    ranges = ", ".join(
        f"{_range(piece)} of {path}" for path, piece in zip(paths[1:], pieces[1:], strict=True)
    )
    return DiskError(
        f"{paths[0]}: {_range(pieces[0])}{' with ' if ranges else ''}{ranges} have the checksum {found:08x}, "
        f"expected {expected:08x}; {_REMEDY}"
    )


def bad_number(path: str, piece: Piece, index: int) -> DiskError:
    """A number that its check does not allow; `index` counts from the piece's first."""
    check = Check(piece.check)
    what = (
        "a scale that is not finite and above 0"
        if check is Check.SCALE
        else f"a {check.name} that is NaN or infinite"
    )
    at = piece.offset + index * check.bytes
    return DiskError(f"{path}: {_range(piece)} hold {what}, at byte {at}; {_REMEDY}")


def _range(piece: Piece) -> str:
    return f"bytes {piece.offset} to {piece.offset + piece.size}"
