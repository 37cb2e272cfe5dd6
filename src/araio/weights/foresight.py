"""`Foresight`: which of the experts that a layer will probably choose are worth reading before it has chosen.

A guess that is right saves the time by which its read began early. A wrong one takes time from reads that
are needed, if it is still running when they come: what has not begun by then is cancelled. Both follow from
three things that are measured as it goes: how often the guess of each rank was right, how long a read takes,
and how much time passes between the guess and the choice. So the width follows the disk: all that fits before
a slow layer on a fast disk, the surest guess or none on a slow one. Read `residency.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

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

    A guess for one token and one for several, one that is made early and one that corrects it, are different
    things: each `kind` has its own precision by rank, and its own window.
    """

    def __init__(self) -> None:
        self._shares: dict[tuple[Hashable, int], _Share] = {}
        self._window_s: dict[Hashable, float] = {}
        self.read_s = 0.0
        """That a read takes while others run beside it, of late."""

    def precision(self, kind: Hashable, rank: int) -> float:
        """Share of guesses of this rank, the best being 0, that were right of late."""
        share = self._shares.get((kind, rank))
        return PRIOR if share is None else share.value

    def window_s(self, kind: Hashable) -> float:
        """Seconds from a guess to the choice, of late; 0 until one was seen."""
        return self._window_s.get(kind, 0.0)

    def judge(self, kind: Hashable, guessed: Sequence[int], chosen: Collection[int], window_s: float) -> None:
        """Compare a guess, best first, with what was chosen so many seconds later."""
        for rank, expert in enumerate(guessed):
            self._shares.setdefault((kind, rank), _Share()).add(expert in chosen)
        self._window_s[kind] = _follow(self._window_s.get(kind), window_s)

    def note_read(self, seconds: float) -> None:
        """A read has taken so long."""
        self.read_s = _follow(self.read_s or None, seconds)

    def is_worth(self, kind: Hashable, rank: int, reads_before: int) -> bool:
        """Whether to read the guess of a rank, behind so many other reads."""
        left_s = self.window_s(kind) - reads_before * self.read_s
        if left_s <= 0:
            return False  # it would not have begun
        saved_s = min(left_s, self.read_s)
        precision = self.precision(kind, rank)
        return precision * saved_s > (1 - precision) * (self.read_s - saved_s)


def _follow(known: float | None, seen: float) -> float:
    """An average that forgets; a stall of the system does not count for more than it has to."""
    return seen if known is None else known + (min(seen, 4 * known) - known) / 16
