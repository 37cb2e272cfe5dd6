"""`verify`: whether the bytes of a read are what they should be, by checksum and by their numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.disk import failures
from araio.disk.reader import Check, Piece, Slot

__all__ = ["verify"]

_CHUNK = 1 << 20  # bytes looked at together: bounds the memory that this takes

Numbers = npt.NDArray[Any]

# NaN and infinity have every bit of the exponent set; e4m3fn has NaN alone, all bits but the sign.
_IS_BAD: Mapping[Check, tuple[str, Callable[[Numbers], npt.NDArray[np.bool_]]]] = {
    Check.F32: ("<u4", lambda bits: bits & 0x7F800000 == 0x7F800000),
    Check.BF16: ("<u2", lambda bits: bits & 0x7F80 == 0x7F80),
    Check.F16: ("<u2", lambda bits: bits & 0x7C00 == 0x7C00),
    Check.FP8: ("u1", lambda bits: bits & 0x7F == 0x7F),
    # As integers, positive finite floats are 1 to 0x7F7FFFFF; 0 less 1 is the largest of all.
    Check.SCALE: ("<u4", lambda bits: bits - np.uint32(1) >= 0x7F7FFFFF),
}


def verify(paths: Sequence[str], pieces: Sequence[Piece], slot: Slot, crc32: int | None) -> None:
    """Raise DiskError unless the pieces in a slot have the checksum, if one is given, and pass their checks.

    paths  of the pieces' files, for the message
    """
    content = [slot[piece.target : piece.target + piece.size] for piece in pieces]
    if crc32 is not None:
        found = 0
        for part in content:
            found = zlib.crc32(part.data, found)
        if found != crc32:
            raise failures.wrong_checksum(paths, pieces, found, crc32)
    for path, piece, part in zip(paths, pieces, content, strict=True):
        index = _first_bad_number(part, Check(piece.check))
        if index is not None:
            raise failures.bad_number(path, piece, index)


def _first_bad_number(content: Slot, check: Check) -> int | None:
    """Index of the first number in `content` (bytes,) that fails the check; None where all pass."""
    if check is Check.NONE:
        return None
    kind, is_bad = _IS_BAD[check]
    for begin in range(0, len(content), _CHUNK):
        bad = np.flatnonzero(is_bad(content[begin : begin + _CHUNK].view(kind)))
        if len(bad):
            return begin // check.bytes + int(bad[0])
    return None
