"""What this machine is, and how fast it reads memory: the limit of decoding, measured in the same run.

Decoding one token reads every active weight once, so its bytes per second can approach this number and not
exceed it, unless weights fit into a cache. Other programs and the clock move it: measure it between the
measurements that it is to judge. `turns.py` does.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["describe_processor", "read_bandwidth", "usable_processors"]

READ_BYTES = 512 << 20  # many times any cache that counts

# Flags of /proc/cpuinfo that kernels are compiled for, or will be, on x86 and on ARM.
VECTOR_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "sve",
)


def read_bandwidth(threads: int, rounds: int = 9) -> float:
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


def describe_processor() -> dict[str, Any]:
    """Name, cores and vector instructions; what the system does not tell stays empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    entries = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in entries.items()}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "name": fields.get("model name") or platform.processor() or platform.machine(),
        "cores_usable": usable_processors(),
        "cores_total": os.cpu_count(),
        "vector_instructions": [flag for flag in VECTOR_FLAGS if flag in flags],
    }


def usable_processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _memory() -> NDArray[np.int64]:
    return np.ones(READ_BYTES // 8, np.int64)


def _read(part: NDArray[np.int64]) -> np.int64:
    """Touch every byte in NumPy's own loop, which lets other threads run and is as fast as one in C."""
    total: np.int64 = part.sum()
    return total
