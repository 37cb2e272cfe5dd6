"""How fast records of experts can be read at all: at random, past the page cache, by as many threads as help.

This is the limit of streaming, measured in the same files and between the measurements that it is to judge.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from araio.errors import CheckpointError

__all__ = ["Records", "record_ceiling"]

THREADS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Records:
    """Records of one file: `count` of them, `size` bytes each, from byte `begin` on."""

    path: Path
    begin: int
    size: int
    count: int


def record_ceiling(
    files: Sequence[Records], seconds: float, seed: int, threads: Sequence[int] = THREADS
) -> float:
    """Bytes per second at the best of some numbers of threads, each of which is given so many seconds."""
    rng = np.random.default_rng(seed)
    places = [(at, file.begin + n * file.size) for at, file in enumerate(files) for n in range(file.count)]
    descriptors = [os.open(file.path, os.O_RDONLY | os.O_DIRECT) for file in files]
    try:
        return max(
            _read_for(
                descriptors, [places[i] for i in rng.permutation(len(places))], files[0].size, seconds, count
            )
            for count in threads
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _read_for(
    descriptors: Sequence[int], places: Sequence[tuple[int, int]], size: int, seconds: float, threads: int
) -> float:
    """Bytes per second of threads that each take the next place until the time is over."""
    started = time.perf_counter()
    left = iter(places)  # one `next` is one step of the interpreter, which threads take in turns

    def read(_: int) -> tuple[int, float]:
        buffer, done = mmap.mmap(-1, size), 0  # aligned to pages
        for file, offset in left:
            if os.preadv(descriptors[file], [buffer], offset) != size:
                raise CheckpointError("a file of experts ended early while its disk was measured")
            done += size
            if time.perf_counter() - started >= seconds:
                break
        return done, time.perf_counter()

    with ThreadPoolExecutor(threads) as pool:
        finished = list(pool.map(read, range(threads)))
    return sum(done for done, _ in finished) / (max(end for _, end in finished) - started)
