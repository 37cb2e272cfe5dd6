"""How deep JSON nests, and how much it holds, told from its bytes before it is parsed.

A parser that calls itself for each level ends the process, or the request with an error of its own, on two
hundred thousand brackets; and a few bytes of empty lists, or of numbers, become many times as much memory,
and seconds in which nobody else is served. They are counted here without a parser. Text that is no JSON is
not told apart: the parser does that. Read `guard.py` next.
"""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_CONTAINERS", "MAX_DEPTH", "MAX_VALUES", "nesting_failure"]

MAX_DEPTH = 64
MAX_CONTAINERS = 100_000
MAX_VALUES = 400_000  # more than any context has token ids

QUOTE, COMMA = ord('"'), ord(",")
STEPS = np.zeros(256, np.int8)
STEPS[list(b"[{")] = 1
STEPS[list(b"]}")] = -1
UNMARKED = bytes(sorted(set(range(256)) - set(b'[]{}",')))


def nesting_failure(body: bytes) -> str | None:
    """What is wrong with a document's structure, as a sentence; None if nothing is."""
    # In UTF-16 a character could look like a quote here and hide the brackets behind it from the count. JSON
    # in any encoding of two or four bytes has zeros; in UTF-8 it has none.
    if b"\0" in body:
        return "the body has zero bytes, as JSON in UTF-8 never has"
    # Most requests hold few brackets and commas, those in their text included: nothing more to look at.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH and body.count(b",") <= MAX_VALUES:
        return None
    # Without what is escaped, every second quote ends a string. Pairs of backslashes go first.
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, UNMARKED)
    codes = np.frombuffer(marks, np.uint8)
    is_inside_string = np.cumsum(codes == QUOTE, dtype=np.int32) & 1 > 0
    outside = codes[~is_inside_string]
    steps = STEPS[outside]
    containers, commas = int(np.count_nonzero(steps > 0)), int(np.count_nonzero(outside == COMMA))
    if containers > MAX_CONTAINERS:
        return f"the body holds {containers:,} lists and objects; expected at most {MAX_CONTAINERS:,}"
    if commas > MAX_VALUES:
        return f"the body holds more than {commas:,} values; expected at most {MAX_VALUES:,}"
    if len(steps) and int(np.cumsum(steps, dtype=np.int32).max()) > MAX_DEPTH:
        return f"the body nests lists and objects deeper than {MAX_DEPTH} levels"
    return None
