"""How deep JSON nests, and how many lists and objects it holds, told from its bytes before it is parsed.

A parser that calls itself for each level ends the process, or the request with an error of its own, on two
hundred thousand brackets; and a few bytes of empty lists become many times as much memory. Both are counted
here without a parser. Text that is no JSON is not told apart: the parser does that. Read `guard.py` next.
"""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_CONTAINERS", "MAX_DEPTH", "nesting_failure"]

MAX_DEPTH = 64
MAX_CONTAINERS = 200_000

QUOTE = ord('"')
STEPS = np.zeros(256, np.int8)
STEPS[list(b"[{")] = 1
STEPS[list(b"]}")] = -1
ALL_BUT_BRACKETS_AND_QUOTES = bytes(sorted(set(range(256)) - set(b'[]{}"')))


def nesting_failure(body: bytes) -> str | None:
    """What is wrong with a document's brackets, as a sentence; None if nothing is."""
    # In UTF-16 a character could look like a quote here and hide the brackets behind it from the count. JSON
    # in any encoding of two or four bytes has zeros; in UTF-8 it has none.
    if b"\0" in body:
        return "the body has zero bytes, as JSON in UTF-8 never has"
    # Most requests hold few brackets in all, those in their text included: nothing more to look at.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return None
    # Without what is escaped, every second quote ends a string. Pairs of backslashes go first.
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, ALL_BUT_BRACKETS_AND_QUOTES)
    codes = np.frombuffer(marks, np.uint8)
    is_inside_string = np.cumsum(codes == QUOTE, dtype=np.int32) & 1 > 0
    steps = STEPS[codes[~is_inside_string]]
    containers = int(np.count_nonzero(steps > 0))
    if containers > MAX_CONTAINERS:
        return f"the body holds {containers:,} lists and objects; expected at most {MAX_CONTAINERS:,}"
    if len(steps) and int(np.cumsum(steps, dtype=np.int32).max()) > MAX_DEPTH:
        return f"the body nests lists and objects deeper than {MAX_DEPTH} levels"
    return None
