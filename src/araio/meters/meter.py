"""`Meter`: windows of time and the joules in them, by the best counter that this machine has.

    meter = choose_meter()
    start = meter.mark()
    ...
    meter.between(start, meter.mark())

`choose_meter` takes what is counted over what is modelled and keeps a reason for whatever cannot serve,
which `araio doctor` shows. Counters see the whole machine; the model sees this process. Read `energy.py` for
what a counter is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from araio.meters.energy import Counter, Energy, NoCounterError
from araio.meters.modelled import ModelledCounter, estimate_power
from araio.meters.rapl import POWERCAP, RaplCounter

__all__ = ["Mark", "Meter", "choose_meter"]


Mark: TypeAlias = tuple[float, tuple[float, ...]]
"""A moment: seconds on a clock, and the joules of every counter."""


class Meter:
    """Windows over one or more counters of different devices, whose joules add up.

    reasons  why these counters serve and no others, one line each
    """

    def __init__(self, counters: Sequence[Counter], reasons: Sequence[str] = ()) -> None:
        self._counters = tuple(counters)
        self.method = "+".join(counter.method for counter in counters)
        self.reasons = tuple(reasons)

    @property
    def is_modelled(self) -> bool:
        """Whether nothing is measured."""
        return self.method.startswith("model:")

    @property
    def idle_watts(self) -> float | None:
        """Power of the idle machine; None until it was observed, where it is measured."""
        known = [counter.idle_watts for counter in self._counters if counter.idle_watts is not None]
        return sum(known) if len(known) == len(self._counters) else None

    def mark(self) -> Mark:
        """Now."""
        return time.monotonic(), tuple(counter.joules() for counter in self._counters)

    def between(self, start: Mark, end: Mark) -> Energy:
        """What was drawn between two moments."""
        (started, first), (ended, last) = start, end
        seconds = ended - started
        joules = [max(0.0, after - before) for before, after in zip(first, last, strict=True)]
        bounds = [one.bounds(drawn, seconds) for one, drawn in zip(self._counters, joules, strict=True)]
        total, idle_watts = sum(joules), self.idle_watts
        return Energy(
            joules=total,
            low=sum(low for low, _ in bounds),
            high=sum(high for _, high in bounds),
            idle_joules=None if idle_watts is None else min(total, idle_watts * seconds),
            method=self.method,
        )

    @property
    def serving(self) -> tuple[str, ...]:
        """The reasons of the counters that serve."""
        return tuple(reason for reason in self.reasons if not reason.startswith("no "))

    def observe_idle(self, seconds: float) -> None:
        """Learn what the machine draws while this process waits; the model knows it already."""
        if self.is_modelled:
            return
        before = [counter.joules() for counter in self._counters]
        started = time.monotonic()
        time.sleep(seconds)
        waited = time.monotonic() - started
        for counter, joules in zip(self._counters, before, strict=True):
            counter.idle_watts = (counter.joules() - joules) / waited


def choose_meter(*, gpus: bool = False, tdp: float | None = None, powercap: Path = POWERCAP) -> Meter:
    """The best counter for the processor, and that of the GPUs if they take part.

    Where the GPUs count and the processor does not, theirs is the whole figure: measured and modelled joules
    are never added.

    gpus      NVIDIA boards compute too
    tdp       see `modelled.estimate_power`
    powercap  where RAPL is looked for

    Raises CostError for a TDP that is no positive number, whether it is needed or not.
    """
    power = estimate_power(tdp)
    counters: list[Counter] = []
    reasons = []
    try:
        counters.append(RaplCounter(powercap))
        reasons.append("rapl: packages and memory are counted, those of other programs too")
    except NoCounterError as error:
        reasons.append(f"no rapl: {error}")
    if gpus:
        from araio.meters.nvml import NvmlCounter  # most runs need none of it

        try:
            counters.append(NvmlCounter())
            reasons.append("nvml: every NVIDIA board is counted as a whole")
        except NoCounterError as error:
            reasons.append(f"no nvml: {error}")
    if not counters:
        counters.append(ModelledCounter(power))
        reasons.append(f"{counters[0].method}: {power.explanation}; within a factor of two")
    return Meter(counters, reasons)
