"""What this machine is, and how fast it reads memory: the limit of decoding, measured in the same run.

    .venv/bin/python benchmarks/machine.py

Decoding one token reads every active weight once, so its bytes per second can approach this number and not
exceed it, unless weights fit into a cache. Other programs and the clock move it: measure before and after.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

READ_BYTES = 512 << 20  # many times any cache that counts
ROUNDS = 9


def main() -> None:
    print(f"{describe()['cpu']}, {describe()['cores']} cores")
    for threads in (1, 2):
        print(f"{threads} threads read memory at {read_bandwidth(threads) / 1e9:.1f} GB/s")


def read_bandwidth(threads: int, rounds: int = ROUNDS) -> float:
    """Bytes per second at which `threads` threads together read memory once from end to end; the median."""
    parts = np.array_split(_memory(), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_read, parts))  # starts the threads
        for _ in range(rounds):
            started = time.perf_counter()
            list(pool.map(_read, parts))
            seconds.append(time.perf_counter() - started)
    return READ_BYTES / statistics.median(seconds)


def describe() -> dict[str, str | int | None]:
    """The processor's name, if the system tells it, and the cores that this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": names[0] if names else None, "cores": cores}


@cache
def _memory() -> NDArray[np.int64]:
    return np.ones(READ_BYTES // 8, np.int64)


def _read(part: NDArray[np.int64]) -> np.int64:
    """Touch every byte in NumPy's own loop, which lets other threads run and is as fast as one in C."""
    total: np.int64 = part.sum()
    return total


if __name__ == "__main__":
    main()
