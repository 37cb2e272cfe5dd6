"""`DiskCeiling`: how fast a model's own files give pieces as large as an expert, from random places.

What streaming can at best read: past the page cache where the file system can do it, several pieces at a
time, with no checksum and nothing computed beside it. Other programs move it, so `streaming.py` samples it
between its measurements.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from araio.disk.reader import BLOCK, Piece
from araio.disk.select import THREADS, open_reader
from araio.memory import Arena

__all__ = ["DiskCeiling"]

SAMPLE_S = 0.5
AT_A_TIME = max(4, THREADS)


class DiskCeiling:
    """Reads pieces of a size from some files.

    Its memory is taken at once: whoever divides a budget later finds it taken.

    Raises DiskError for a file that cannot be opened.
    """

    def __init__(self, paths: Sequence[Path], piece_bytes: int, seed: int = 0) -> None:
        self._reader = open_reader()
        self._files = [(self._reader.add(path), path.stat().st_size) for path in paths]
        self._piece_bytes = piece_bytes
        self._arena = Arena(AT_A_TIME * -(-piece_bytes // BLOCK) * BLOCK)
        self._arena.content.fill(1)
        self._rng = np.random.default_rng(seed)

    def sample(self) -> float:
        """Bytes per second over a short while; raises DiskError for a piece that cannot be read."""
        before, began_s = self._reader.counters.bytes, time.perf_counter()
        for slot in range(AT_A_TIME):
            self._submit(slot)
        while time.perf_counter() - began_s < SAMPLE_S:
            for slot in self._finished(None):
                self._submit(slot)
        self._reader.drain()
        self._finished(0.0)
        return (self._reader.counters.bytes - before) / (time.perf_counter() - began_s)

    def close(self) -> None:
        """End the threads that read."""
        self._reader.close()

    def _submit(self, slot: int) -> None:
        file, file_bytes = self._files[self._rng.integers(len(self._files))]
        size = min(self._piece_bytes, file_bytes)
        offset = int(self._rng.integers((file_bytes - size) // BLOCK + 1)) * BLOCK
        room = len(self._arena.content) // AT_A_TIME
        memory = self._arena.content[slot * room : (slot + 1) * room]
        self._reader.submit(slot, memory, [Piece(file, offset, size, 0)])

    def _finished(self, timeout_s: float | None) -> list[int]:
        slots = []
        for done in self._reader.wait(timeout_s):
            if done.error is not None:
                raise done.error
            slots.append(done.tag)
        return slots
