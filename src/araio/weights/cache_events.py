"""`CacheEventLog`: what became of which expert and when, kept while somebody records it.

`counters.py` has the sums for as long as a model is loaded. Here is each event by itself, on the clock of the
trace that it belongs to, a whole layer's at a time. Read `residency.py` for where they happen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from araio.traces import CacheEvent, CacheEvents
from araio.weights.places import Keys
from araio.weights.tickets import Awaited

__all__ = ["CacheEventLog"]

MOST_EVENTS = 1 << 20
"""Kept until somebody takes them; then the oldest are dropped."""


class _Entry(NamedTuple):
    clock: int
    keys: Keys
    kind: CacheEvent
    us: npt.NDArray[np.int64] | int


class CacheEventLog:
    """Events of one source of experts, until they are taken.

    layers         numbers of its layers; an expert's key counts through all of them
    experts        of a layer
    record_bytes   that reading an expert reads
    clock          rows that were recorded before the step that runs
    dropped        events that nobody took in time
    """

    def __init__(self, layers: list[int], experts: int, record_bytes: int) -> None:
        self.clock = 0
        self.dropped = 0
        self._layers, self._experts, self._record_bytes = np.array(layers), experts, record_bytes
        self._entries: deque[_Entry] = deque()
        self._count = 0

    def add(self, kind: CacheEvent, keys: Keys, us: npt.NDArray[np.int64] | int = 0) -> None:
        """Something happened to some experts; they waited so many microseconds."""
        if not len(keys):
            return
        self._entries.append(_Entry(self.clock, keys, kind, us))
        self._count += len(keys)
        while self._count > MOST_EVENTS:
            oldest = len(self._entries.popleft().keys)
            self._count -= oldest
            self.dropped += oldest

    def add_arrivals(self, awaited: Awaited, arrived: Sequence[int]) -> None:
        """A layer has waited for these: for some a read had begun before it asked, so they are hits."""
        waited_us = int((time.perf_counter() - awaited.began_s) * 1e6)
        missing = [key for key in arrived if key in awaited.missing]
        late = [key for key in arrived if key not in awaited.missing]
        self.add(CacheEvent.MISS, np.array(missing, np.int64), waited_us)
        self.add(CacheEvent.HIT, np.array(late, np.int64), waited_us)

    def take(self) -> CacheEvents:
        """All that is kept, in the order in which it happened; from here on it is the caller's."""
        entries, self._entries, self._count = list(self._entries), deque(), 0
        sizes = [len(entry.keys) for entry in entries]
        keys = np.concatenate([entry.keys for entry in entries]) if entries else np.zeros(0, np.int64)
        places, experts = np.divmod(keys, self._experts)
        kinds = np.repeat(np.array([entry.kind for entry in entries], np.uint8), sizes)
        waits = [np.broadcast_to(entry.us, size) for entry, size in zip(entries, sizes, strict=True)]
        is_read = (kinds != CacheEvent.HIT).astype(np.uint32)
        return CacheEvents(
            t=np.repeat(np.array([entry.clock for entry in entries], np.int32), sizes),
            layer=self._layers[places].astype(np.uint8),
            expert=experts.astype(np.uint16),
            kind=kinds,
            bytes=is_read * np.uint32(self._record_bytes),
            us=np.concatenate(waits).astype(np.uint32) if waits else np.zeros(0, np.uint32),
        )
