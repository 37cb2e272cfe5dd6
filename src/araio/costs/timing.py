"""`Timing`: the seconds of a decoding step or of a prompt, part by part, and what bounds them.

Parts follow each other, so their times add up. Experts that lie on disk are read while the shared expert and
those in memory are computed, as the model does: of these two the longer counts. Reading further ahead would
hide more; `Timing.read_ahead_s` is its limit. Read `roofline.py` for where the parts come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Bound", "Part", "Timing"]

Bound: TypeAlias = Literal["memory", "compute", "disk", "overhead"]
"""What takes most of the time; `overhead` are the fixed seconds of steps and layers."""

# What runs while experts come from disk.
_BESIDE_DISK = frozenset(("shared experts", "experts in memory"))


@dataclass(frozen=True)
class Part:
    """Part of a step.

    read_bytes  of memory, or of the disk
    seconds     that it takes; `read_s` and `compute_s` are what reading and computing alone would
    """

    name: str
    read_bytes: float
    operations: float
    read_s: float
    compute_s: float
    seconds: float
    is_disk: bool = False

    def __add__(self, other: Part) -> Part:
        return Part(
            self.name,
            self.read_bytes + other.read_bytes,
            self.operations + other.operations,
            self.read_s + other.read_s,
            self.compute_s + other.compute_s,
            self.seconds + other.seconds,
            self.is_disk,
        )


@dataclass(frozen=True)
class Timing:
    """A decoding step, or a whole prompt.

    tokens   that it gives, or reads
    fixed_s  seconds of steps and layers that no size explains
    """

    tokens: int
    parts: tuple[Part, ...]
    fixed_s: float

    @property
    def disk_s(self) -> float:
        """Seconds of reading from disk, and of computing with what was read."""
        return sum(part.seconds for part in self.parts if part.is_disk)

    @property
    def memory_s(self) -> float:
        """Seconds of everything else."""
        return self.fixed_s + sum(part.seconds for part in self.parts if not part.is_disk)

    @property
    def seconds(self) -> float:
        """Disk and what runs beside it by the longer of both, everything else one after the other."""
        beside = sum(part.seconds for part in self.parts if part.name in _BESIDE_DISK)
        return self.memory_s - beside + max(beside, self.disk_s)

    @property
    def read_ahead_s(self) -> float:
        """The limit of reading ahead: disk and memory side by side all the time."""
        return max(self.memory_s, self.disk_s)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def read_bytes(self) -> float:
        """Of memory; `disk_bytes` are read besides."""
        return sum(part.read_bytes for part in self.parts if not part.is_disk)

    @property
    def disk_bytes(self) -> float:
        return sum(part.read_bytes for part in self.parts if part.is_disk)

    @property
    def operations(self) -> float:
        return sum(part.operations for part in self.parts)

    @property
    def shares(self) -> dict[Bound, float]:
        """Of the time, by what bounds each part."""
        hides_memory = self.disk_s > sum(p.seconds for p in self.parts if p.name in _BESIDE_DISK)
        shares: defaultdict[Bound, float] = defaultdict(float)
        shares["overhead"] = self.fixed_s
        for part in self.parts:
            hidden = part.name in _BESIDE_DISK if hides_memory else part.is_disk
            if not hidden:
                shares[_bound_of(part)] += part.seconds
        return {bound: seconds / self.seconds for bound, seconds in _largest_first(shares)}

    @property
    def bound(self) -> Bound:
        """What takes most of the time."""
        return next(iter(self.shares))

    @property
    def busy_share(self) -> float:
        """How much of its two capabilities the machine uses on average: reading memory, and computing."""
        read = sum(part.read_s for part in self.parts if not part.is_disk)
        compute = sum(part.compute_s for part in self.parts)
        return min(1.0, (read + compute) / 2 / self.seconds)


def _largest_first(shares: Mapping[Bound, float]) -> list[tuple[Bound, float]]:
    return sorted(shares.items(), key=lambda share: -share[1])


def _bound_of(part: Part) -> Bound:
    if part.compute_s >= part.read_s:
        return "compute"
    return "disk" if part.is_disk else "memory"
