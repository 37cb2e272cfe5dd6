"""A model of this process's power, for machines that count no joules: virtual machines, most of all.

    P = idle + (full - idle) * utilisation + DRAM

`full` is the share of the processor's thermal design power that belongs to the threads araio may use;
utilisation is this process's CPU time over what those threads could have given. Every constant is stated
below with its source, and the truth is taken to lie within a factor of two of the result. Read `meter.py`
for when it serves.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

import psutil

from araio import env
from araio.errors import CostError
from araio.meters.processors import PROCESSORS, find_processor, read_processor_name

__all__ = ["ModelledCounter", "Power", "estimate_power"]

# CodeCarbon 3.3.2: an idle processor draws a tenth, one that it does not know 4 W a thread at full load; and
# version 2 of it counted 3 W for 8 GB of memory.
IDLE_SHARE = 0.1
WATTS_PER_THREAD = 4.0
DRAM_WATTS_PER_GB = 0.375

UNCERTAINTY = 2.0


@dataclass(frozen=True)
class Power:
    """What the model knows of this machine.

    name         of the model, in `Energy.method`
    full_watts   of the threads araio may use, all of them busy
    dram_watts   whatever they do
    threads      that araio may use
    explanation  the figures behind it, in one phrase
    """

    name: str
    full_watts: float
    dram_watts: float
    threads: int
    explanation: str

    @property
    def idle_watts(self) -> float:
        """Doing nothing."""
        return IDLE_SHARE * self.full_watts + self.dram_watts

    @property
    def joules_per_cpu_second(self) -> float:
        """What one busy thread adds to idling."""
        return (1 - IDLE_SHARE) * self.full_watts / self.threads


def estimate_power(tdp: float | None = None, processor: str | None = None) -> Power:
    """Full and idle power of the share of this machine that araio may use.

    tdp        watts of that share at full load; None reads `ARAIO_TDP`, whose default knows them by the
               processor's name
    processor  its name; None asks the system

    Raises CostError for watts that are no positive number.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gigabytes = psutil.virtual_memory().total / 1e9
    dram_watts = DRAM_WATTS_PER_GB * gigabytes
    dram = f"memory {DRAM_WATTS_PER_GB} W/GB x {gigabytes:.0f} GB"
    name = read_processor_name() if processor is None else processor
    if (given := _given_watts(tdp)) is not None:
        return Power("given-tdp", given, dram_watts, threads, f"{given:g} W as given, {dram}")
    if (known := find_processor(name)) is not None:
        watts, of_threads = PROCESSORS[known]
        share = f"{watts} W of {known} x {threads} of {of_threads} threads"
        return Power("tdp", watts * threads / of_threads, dram_watts, threads, f"{share}, {dram}")
    unknown = f"{WATTS_PER_THREAD:g} W x {threads} threads of a processor that is not in the table"
    found = f" ({name})" if name else ""
    return Power("per-thread", WATTS_PER_THREAD * threads, dram_watts, threads, f"{unknown}{found}, {dram}")


def _given_watts(tdp: float | None) -> float | None:
    text = env.get("ARAIO_TDP") if tdp is None else str(tdp)
    if text == "auto":
        return None
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if not 0 < watts < math.inf:
        what, auto = ("ARAIO_TDP", "auto or ") if tdp is None else ("the TDP", "")
        raise CostError(f"{what} is {text!r}; expected {auto}watts above 0, as in 65")
    return watts


class ModelledCounter:
    """Joules that this process takes by the model: its idle share all the time, the rest by its CPU time."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.method = f"model:{power.name}"
        self.idle_watts: float | None = power.idle_watts

    @property
    def reason(self) -> str:
        """Why it gives what it gives, in one line."""
        return f"{self.method}: {self.power.explanation}; within a factor of two"

    def joules(self) -> float:
        """By the clock and the CPU time of all threads of this process."""
        power = self.power
        return power.idle_watts * time.monotonic() + power.joules_per_cpu_second * time.process_time()

    def bounds(self, joules: float, seconds: float) -> tuple[float, float]:
        """Half and twice as much: the constants are guesses."""
        return joules / UNCERTAINTY, joules * UNCERTAINTY
