"""`Foresight`: how many of the experts that a layer will probably choose are worth reading before it has chosen.

A guess that is right saves the time by which its read began early. A wrong one takes time from the reads that
are needed, if it is still running when they come: what has not begun then is cancelled. Both follow from three
things that are measured as it goes: how often the guess of each rank was right, how long a read takes, and how
much time passes between the guess and the choice. So the width follows the disk: all that fits before a slow
layer on a fast disk, the surest guess or none on a slow one. Read `residency.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["Foresight"]

# A guess counts for half as much after so many others of its rank.
HALF_LIFE = 64
DECAY = 0.5 ** (1 / HALF_LIFE)

# Before anything is known; published figures for a guess of this kind lie between 0.74 and 0.97.
PRIOR, PRIOR_GUESSES = 0.75, 8.0


class _Share:
    """Of guesses that were right, the latest weighing most."""

    def __init__(self) -> None:
        self.right, self.all = PRIOR * PRIOR_GUESSES, PRIOR_GUESSES

    def add(self, is_right: bool) -> None:
        self.right = DECAY * self.right + is_right
        self.all = DECAY * self.all + 1

    @property
    def value(self) -> float:
        return self.right / self.all


class Foresight:
    """Learns from each guess what the next one is worth.

    Guesses for one token and for several are different things, so each has its own precision by rank.
    """

    def __init__(self) -> None:
        self._shares: dict[tuple[bool, int], _Share] = {}
        self._window_s: dict[bool, float] = {}
        self.guesses = 0
        self.right = 0

    def precision(self, is_one: bool, rank: int) -> float:
        """Share of guesses of this rank, the best being 0, that were right of late."""
        share = self._shares.get((is_one, rank))
        return PRIOR if share is None else share.value

    def window_s(self, is_one: bool) -> float:
        """Seconds from a guess to the choice, of late; 0 until one was seen."""
        return self._window_s.get(is_one, 0.0)

    def judge(self, is_one: bool, guessed: Sequence[int], chosen: Collection[int], window_s: float) -> None:
        """Compare a guess, best first, with what was chosen so many seconds later."""
        for rank, expert in enumerate(guessed):
            is_right = expert in chosen
            self._shares.setdefault((is_one, rank), _Share()).add(is_right)
            self.guesses += 1
            self.right += is_right
        known = self._window_s.get(is_one)
        # A stall of the system must not make every later guess look cheap.
        self._window_s[is_one] = window_s if known is None else known + (min(window_s, 4 * known) - known) / 16

    def is_worth(self, is_one: bool, rank: int, reads_before: int, read_s: float) -> bool:
        """Whether to read the guess of a rank.

        reads_before  that go before it
        read_s        seconds that each takes while others run beside it
        """
        left_s = self.window_s(is_one) - reads_before * read_s
        if left_s <= 0:
            return False  # it would not have begun
        saved_s = min(left_s, read_s)
        precision = self.precision(is_one, rank)
        return precision * saved_s > (1 - precision) * (read_s - saved_s)
