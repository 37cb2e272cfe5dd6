"""`first_bad_number`: looks for a number in bytes that no weight or scale can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.disk.reader import Check, Slot

__all__ = ["first_bad_number"]

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


def first_bad_number(content: Slot, check: Check) -> int | None:
    """Index of the first number in `content` (bytes,) that fails the check; None where all pass."""
    if check is Check.NONE:
        return None
    kind, is_bad = _IS_BAD[check]
    for begin in range(0, len(content), _CHUNK):
        bad = np.flatnonzero(is_bad(content[begin : begin + _CHUNK].view(kind)))
        if len(bad):
            return begin // check.bytes + int(bad[0])
    return None
