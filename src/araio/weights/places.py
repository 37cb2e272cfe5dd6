"""`Places`: which expert lies where in memory, what it is kept for, and who leaves when room is needed.

A place is a number below `count`, a key one of an expert. An expert has no place, or one that is being
filled, or one where it is ready. Nothing is read, given back or computed here: `residency.py` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from araio.weights.policies import Policy

__all__ = ["FORESEEN", "NEEDED", "NOBODY", "Keys", "Places"]

NOBODY = -1

# What those that are preferred are worth beside their own worth, which is 1 for a use at the next turn.
PREFERENCE = 0.1

# What an expert in memory is kept for: what is foreseen leaves only for what is needed, and that never does.
FORESEEN, NEEDED = 1, 2

Keys = npt.NDArray[np.int64]


class Places:
    """`count` places for the experts with keys 0 to `keys - 1`.

    slot_of      (keys,) the place of each, or NOBODY
    is_ready     (count,) its expert is there, not on its way
    is_unproven  (count,) its expert was read because it was foreseen, and has not been used since
    is_pinned    (keys,) never leaves once it is there
    is_preferred (keys,) leaves only for what is worth clearly more
    unused       experts that left without ever having been used
    on_leave     told of the keys of those that leave, if set
    """

    def __init__(
        self, keys: int, count: int, pinned: Collection[int] = (), preferred: Collection[int] = ()
    ) -> None:
        self.count = count
        self.slot_of = np.full(keys, NOBODY, np.int64)
        self.is_ready = np.zeros(count, np.bool_)
        self.is_unproven = np.zeros(count, np.bool_)
        self.is_pinned = np.zeros(keys, np.bool_)
        self.is_pinned[list(pinned)] = True
        self.is_preferred = np.zeros(keys, np.bool_)
        self.is_preferred[list(preferred)] = True
        self.unused = 0
        self.on_leave: Callable[[Keys], None] | None = None
        self._key_of = np.full(count, NOBODY, np.int64)
        self._guard = np.zeros(count, np.uint8)
        self._free = list(range(count - 1, -1, -1))
        self._lent: list[int] = []

    @property
    def free(self) -> int:
        """Places that are empty and in use."""
        return len(self._free)

    @property
    def lent(self) -> int:
        """Places that are out of use."""
        return len(self._lent)

    def is_here(self, key: int) -> bool:
        """Whether an expert is ready."""
        slot = self.slot_of[key]
        return slot != NOBODY and bool(self.is_ready[slot])

    # ------------------------------------------------------------------ what experts are kept for

    def let_go(self) -> None:
        """Keep nothing for anything."""
        self._guard[:] = 0

    def keep(self, keys: Keys | Sequence[int], guard: int) -> None:
        """Keep what has a place of some experts for at least so much."""
        slots = self.slot_of[keys]
        slots = slots[slots != NOBODY]
        self._guard[slots] = np.maximum(self._guard[slots], guard)

    def release(self, slots: Keys) -> None:
        """Experts that were needed have been used."""
        self._guard[slots] = 0

    def is_needed(self, key: int) -> bool:
        """Whether an expert that has a place is kept for the layer that runs."""
        return bool(self._guard[self.slot_of[key]] == NEEDED)

    # ------------------------------------------------------------------ coming and leaving

    def make_room(self, wanted: int, kept: int, policy: Policy) -> list[int]:
        """Up to so many places that nobody has; experts leave for it that are kept for less than `kept`."""
        taken = [self._free.pop() for _ in range(min(wanted, len(self._free)))]
        for guard in range(kept):
            if len(taken) == wanted:
                break
            taken += self._evict(wanted - len(taken), guard, policy)
        return taken

    def settle(self, key: int, slot: int, guard: int) -> None:
        """Give a place that `make_room` gave to an expert that is on its way."""
        self.slot_of[key], self._key_of[slot] = slot, key
        self._guard[slot] = guard
        self.is_unproven[slot] = guard == FORESEEN

    def arrive(self, key: int) -> None:
        """An expert is ready."""
        self.is_ready[self.slot_of[key]] = True

    def vacate(self, key: int) -> None:
        """An expert did not get to its place."""
        slot = int(self.slot_of[key])
        self._forget(np.array([slot]))
        self._free.append(slot)

    def lend(self, slot: int) -> None:
        """Take a place that `make_room` gave out of use."""
        self._lent.append(slot)

    def take_back(self, wanted: int) -> None:
        """Use up to so many places again."""
        for _ in range(min(wanted, len(self._lent))):
            self._free.append(self._lent.pop())

    def rebuild(self) -> None:
        """Keep what is known to be ready, and nothing else; for when a change was interrupted."""
        keys = self._key_of.copy()
        is_kept = self.is_ready & (keys != NOBODY)
        is_kept[is_kept] = self.slot_of[keys[is_kept]] == np.flatnonzero(is_kept)
        self.slot_of[:] = NOBODY
        self.slot_of[keys[is_kept]] = np.flatnonzero(is_kept)
        self._key_of[~is_kept] = NOBODY
        self.is_ready[:] = is_kept
        self.is_unproven[:] = False
        self.let_go()
        is_kept[self._lent] = True
        self._free[:] = np.flatnonzero(~is_kept).tolist()

    def _evict(self, wanted: int, guard: int, policy: Policy) -> list[int]:
        """The places of up to so many experts, the least worthy of those with this guard, which leave."""
        slots = np.flatnonzero(self.is_ready & (self._guard == guard))
        slots = slots[~self.is_pinned[self._key_of[slots]]]
        if wanted < len(slots):
            keys = self._key_of[slots]
            worth = policy.priorities(keys) + PREFERENCE * self.is_preferred[keys]
            slots = slots[np.argpartition(worth, wanted - 1)[:wanted]]
        self.unused += int(np.count_nonzero(self.is_unproven[slots]))
        if self.on_leave is not None:
            self.on_leave(self._key_of[slots])
        self._forget(slots)
        places: list[int] = slots.tolist()
        return places

    def _forget(self, slots: Keys) -> None:
        self.is_ready[slots] = False
        self.slot_of[self._key_of[slots]] = NOBODY
        self._key_of[slots] = NOBODY
        self._guard[slots] = 0
