"""`LoopDetector`: whether a text has begun to say the same again and again, told token by token.

A model that has lost its thread often falls into a cycle that it never leaves: the same tokens in the same
order. What counts are exact repetitions, so that a list or a table, whose lines differ somewhere, is none.
Read `guide.py` for what is done about one.
"""

from __future__ import annotations

import numpy as np

__all__ = ["LEAST_TOKENS", "LONGEST_PERIOD", "REPEATS", "LoopDetector"]

LONGEST_PERIOD, REPEATS, LEAST_TOKENS = 128, 4, 64
"""A loop: so many tokens at most, at least so often, and no fewer tokens in all."""


class LoopDetector:
    """Sees every token of one text; what it does for each takes some microseconds."""

    def __init__(self) -> None:
        periods = np.arange(1, LONGEST_PERIOD + 1)
        # A period is told by its second round, so that one round less must have been the same as before.
        self._needed = np.maximum(REPEATS * periods, LEAST_TOKENS) - periods
        self._recent = np.full(LONGEST_PERIOD, -1, np.int64)  # the newest first
        self._same = np.zeros(LONGEST_PERIOD, np.int64)

    def push(self, token_id: int) -> bool:
        """The next token; True where the text ends in a loop."""
        self._same += 1
        self._same[self._recent != token_id] = 0
        self._recent[1:] = self._recent[:-1]
        self._recent[0] = token_id
        return bool((self._same >= self._needed).any())

    def forget(self) -> None:
        """What comes now begins anew."""
        self._recent[:], self._same[:] = -1, 0
