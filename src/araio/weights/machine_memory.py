"""How much memory this process may use: the machine's, or that of its control group if that is less.

A container may be killed for memory that the machine still has, so the limits of all groups above the process
count (Linux `cgroups(7)`: `memory.max` and `memory.high` of version 2, `memory.limit_in_bytes` of version 1).
Read `budget.py` for what is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["MachineMemory", "machine_memory"]

SPARED = 8
"""One part in so many of the machine is left to others."""

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MachineMemory:
    """Bytes.

    total      that this process could ever have
    available  that nobody uses now, or that could be freed at once
    used       by this process
    """

    total: int
    available: int
    used: int

    @property
    def allowed(self) -> int:
        """What this process should take in all: not the last eighth, and not what others hold."""
        return min(self.total - self.total // SPARED, self.used + self.available)


def machine_memory(own_groups: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> MachineMemory:
    """As it is now."""
    memory, used = psutil.virtual_memory(), psutil.Process().memory_info().rss
    total, available = int(memory.total), int(memory.available)
    for limit, group_used in _limits(own_groups, groups):
        total = min(total, limit)
        available = min(available, max(0, limit - group_used))
    return MachineMemory(total, available, used)


def _limits(own_groups: Path, groups: Path) -> list[tuple[int, int]]:
    """Limit and use of every group that this process is in, from its own to the outermost."""
    found = []
    limits: tuple[str, ...]
    for line in _text(own_groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            # Above `high` a process is slowed down until it stands still, long before `max`.
            folder, limits, use = groups, ("memory.max", "memory.high"), "memory.current"
        elif "memory" in controllers.split(","):
            folder, limits, use = groups / "memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes"
        else:
            continue
        group = folder / path.lstrip("/")
        while group.is_relative_to(folder):
            used = _text(group / use).strip()
            stated = [_text(group / name).strip() for name in limits]
            if used.isdecimal():  # the outermost has no file, and no limit is `max`
                taken = int(used) - _page_cache(group / "memory.stat")
                found += [(int(limit), taken) for limit in stated if limit.isdecimal()]
            group = group.parent
    return found


def _page_cache(statistics: Path) -> int:
    """Bytes of files that a group is charged for, and that the system frees when it needs room."""
    for line in _text(statistics).splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or a group that is not shown to us
        return ""
