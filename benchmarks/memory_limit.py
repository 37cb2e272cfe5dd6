"""`MemoryLimit`: leaves the machine so much memory and no more, where the system has no groups to limit.

A helper process locks memory away until `MemAvailable` is what it should be. Whoever runs then has that for
everything: its own memory, the page cache of what it reads, and what the system keeps for itself. The helper
holds until its stdin closes, so it ends with the benchmark, however that ends. Where memory runs out it is
the first that the system kills, and `check` tells. Needs Linux, and root or a high limit of locked memory.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from araio.errors import AraioError

__all__ = ["MemoryLimit", "available_bytes", "steps"]

STEP = 64 << 20


class LimitError(AraioError):
    """Memory that cannot be taken away, or that came back too early."""


class MemoryLimit:
    """A `with` block in which the machine has `available` bytes of memory left; raises LimitError."""

    def __init__(self, available: int) -> None:
        self.available = available

    def __enter__(self) -> Self:
        if not Path("/proc/meminfo").exists():
            raise LimitError("memory can only be limited on Linux")
        self._helper = subprocess.Popen(
            [sys.executable, __file__, str(self.available)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        assert self._helper.stdout is not None
        if self._helper.stdout.readline() != "held\n":
            _, words = self._helper.communicate()
            raise LimitError(f"memory could not be locked: {words.strip().splitlines()[-1:]}; try as root")
        return self

    def check(self) -> None:
        """Raises LimitError if the helper is gone, so that what was measured had more memory."""
        if self._helper.poll() is not None:
            raise LimitError(
                f"the memory that was taken away came back: {self.available / 1e9:.2f} GB were too little "
                "for what ran; leave more"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._helper.kill()
        self._helper.communicate()


def available_bytes() -> int:
    """Memory that could be had without swapping, page cache included."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def steps(available: int, wanted: int) -> list[int]:
    """Sizes to lock one after the other, whole pages, so that `wanted` of `available` bytes stay."""
    surplus = max(0, available - wanted) // mmap.PAGESIZE * mmap.PAGESIZE
    whole, rest = divmod(surplus, STEP)
    return [STEP] * whole + ([rest] if rest else [])


def hold(wanted: int) -> None:
    """Lock memory away and sleep until stdin closes."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    libc = ctypes.CDLL(None, use_errno=True)
    held = []
    # What is locked is not all that goes: page tables do too. So what is left is asked for again.
    while sizes := steps(available_bytes(), wanted):
        memory = mmap.mmap(-1, sizes[0])
        first = ctypes.c_char.from_buffer(memory)
        if libc.mlock(ctypes.byref(first), ctypes.c_size_t(sizes[0])):
            raise SystemExit(f"mlock failed with errno {ctypes.get_errno()}")
        held.append((memory, first))
    print("held", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
