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
from typing import NamedTuple

from araio.meters.energy import Counter, Energy, NoCounterError
from araio.meters.modelled import ModelledCounter, estimate_power
from araio.meters.rapl import POWERCAP, RaplCounter

__all__ = ["Mark", "Meter", "choose_meter"]


class Mark(NamedTuple):
    """A moment: seconds on a clock, the joules of every counter, and those of the model behind them."""

    seconds: float
    joules: tuple[float, ...]
    modelled: float = 0.0


class Meter:
    """Windows over one or more counters of different devices, whose joules add up.

    reasons   why these counters serve and no others, one line each
    stand_in  models every window from when a counter can be read no more, those that are open too: an answer
              is not lost with it. Without one that is an error
    """

    def __init__(
        self,
        counters: Sequence[Counter],
        reasons: Sequence[str] = (),
        stand_in: ModelledCounter | None = None,
    ) -> None:
        self._counters: tuple[Counter, ...] = tuple(counters)
        self._stand_in = stand_in
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
        """Now.

        Raises NoCounterError if a counter can be read no more, and nothing stands in.
        """
        modelled = 0.0 if self._stand_in is None else self._stand_in.joules()
        try:
            joules = tuple(counter.joules() for counter in self._counters)
        except NoCounterError as error:
            if self._stand_in is None:
                raise
            joules = (modelled,)
            self._fall_back(self._stand_in, error)
        return Mark(time.monotonic(), joules, modelled)

    def _fall_back(self, stand_in: ModelledCounter, error: NoCounterError) -> None:
        lost = f"no {self.method}: {error}"
        self._counters, self.method = (stand_in,), stand_in.method
        self.reasons = (
            *(reason for reason in self.reasons if reason.startswith("no ")),
            lost,
            stand_in.reason,
        )

    def between(self, start: Mark, end: Mark) -> Energy:
        """What was drawn between two moments."""
        seconds, first, last = end.seconds - start.seconds, start.joules, end.joules
        if self._counters == (self._stand_in,):
            first, last = (start.modelled,), (end.modelled,)
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
    stand_in = ModelledCounter(estimate_power(tdp))
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
        counters.append(stand_in)
        reasons.append(stand_in.reason)
    return Meter(counters, reasons, stand_in)
