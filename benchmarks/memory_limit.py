"""`MemoryLimit`: leaves the machine so much memory and no more, where the system has no groups to limit.

A helper process locks memory away until `MemAvailable` is what it should be. Whoever runs then has that for
everything: its own memory, the page cache of what it reads, and what the system keeps for itself. What other
programs take or give back meanwhile the helper gives back or takes; only children of the process that limits
are meant to feel it. It ends when its stdin closes, so with the benchmark, however that ends. Where memory
runs out it is the first that the system kills, and `check` tells. Needs Linux, and root.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from araio.errors import AraioError

__all__ = ["Locked", "MemoryLimit", "available_bytes", "steps"]

STEP = 64 << 20
STEPS_AT_ONCE = 8
WATCH_S = 0.25
PATIENCE = 6  # looks that must agree before memory is given back


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
    return _meminfo("MemAvailable:")


def _meminfo(name: str) -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def steps(available: int, wanted: int) -> list[int]:
    """Sizes to lock one after the other, whole pages, so that `wanted` of `available` bytes stay."""
    surplus = max(0, available - wanted) // mmap.PAGESIZE * mmap.PAGESIZE
    whole, rest = divmod(surplus, STEP)
    return [STEP] * whole + ([rest] if rest else [])


class Locked:
    """Memory that is locked away, a step at a time."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._held: list[mmap.mmap] = []

    def take(self, size: int) -> None:
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # as `AnonPages` counts it
        first = ctypes.c_char.from_buffer(memory)
        failed = self._libc.mlock(ctypes.byref(first), ctypes.c_size_t(size))
        del first  # which keeps the memory from being closed
        if failed:
            raise SystemExit(f"mlock failed with errno {ctypes.get_errno()}")
        self._held.append(memory)

    def follow(self, excess: int) -> None:
        """Give back what others have taken since, or take what they have given back, in whole steps."""
        while excess >= STEP and self._held:
            memory = self._held.pop()
            excess -= len(memory)
            memory.close()
        for _ in range(min(-excess // STEP, STEPS_AT_ONCE)):
            self.take(STEP)


def hold(wanted: int) -> None:
    """Lock memory away until stdin closes, and keep step with what other programs take."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    locked = Locked()
    # What is locked is not all that goes: page tables do too. So what is left is asked for again.
    while sizes := steps(available_bytes(), wanted):
        locked.take(sizes[0])
    print("held", flush=True)
    parent = psutil.Process(os.getppid())
    kept = _taken(parent)
    seen = 0
    while not select.select([sys.stdin], [], [], WATCH_S)[0]:
        excess = _taken(parent) - kept
        # An engine that ends leaves the list of processes before its memory is back, and no other needs that.
        seen = seen + 1 if excess >= STEP else 0
        if excess < STEP or seen >= PATIENCE:
            locked.follow(excess)


def _taken(parent: psutil.Process) -> int:
    """Memory of all programs that no file stands behind, this one among them, but for what is measured."""
    engines = 0
    for child in parent.children(recursive=True):
        if child.pid != os.getpid():
            with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
                memory = child.memory_info()
                engines += memory.rss - memory.shared
    return _meminfo("AnonPages:") - engines


if __name__ == "__main__":
    hold(int(sys.argv[1]))
