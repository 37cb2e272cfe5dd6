"""`Energy`: joules of a window of time, how sure they are, and how they came about; and what counts them.

A `Counter` only ever rises, so that windows of several owners may overlap: each keeps what it saw at its
start. Read `meter.py` for windows, and `rapl.py`, `nvml.py` and `modelled.py` for the three counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Counter", "Energy", "NoCounterError"]


@dataclass(frozen=True)
class Energy:
    """What a window of time took.

    joules       the best figure
    low, high    between which it lies; both are `joules` where a counter is taken at its word
    idle_joules  the part that the machine would have drawn doing nothing; None where nobody measured it
    method       `rapl`, `nvml`, `rapl+nvml`, or `model:NAME` where nothing was measured
    """

    joules: float
    low: float
    high: float
    idle_joules: float | None
    method: str


class Counter(Protocol):
    """Joules since some moment in the past.

    method      its name in `Energy.method`
    idle_watts  power of the idle machine; None until somebody measured it
    """

    method: str
    idle_watts: float | None

    def joules(self) -> float:
        """What was drawn up to now; raises NoCounterError if it can be read no more."""

    def bounds(self, joules: float, seconds: float) -> tuple[float, float]:
        """Between which figures the joules of a window of so many seconds lie."""


class NoCounterError(Exception):
    """A counter that cannot serve here; the message says why, and what would change that."""
