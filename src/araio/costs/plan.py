"""`predict`: what a model would do on a machine: where it lies, how fast it is, what a token takes.

Tiers come from `tiers.py`, times from `roofline.py`, power from the machine. Joules are always modelled here:
between a machine that does nothing and one at full power all the time, the middle by how much of its reading
and computing a step uses. Grams and money follow from stated rates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from araio.config import ModelConfig
from araio.costs.checks import require_positive, require_rate, require_share
from araio.costs.grid import JOULES_PER_KWH, Intensity
from araio.costs.hardware import Hardware
from araio.costs.machine import Machine
from araio.costs.roofline import Experts, decode_timing, prefill_timing
from araio.costs.speeds import Speeds
from araio.costs.storage import Storage
from araio.costs.tiers import CHUNK, Load, Tiers, place
from araio.costs.timing import Timing
from araio.errors import CostError

__all__ = ["Prediction", "Site", "predict", "site_here", "site_of"]

SERVED_CHUNK = 8192
"""Tokens of prompts in one step on published hardware; stated, what servers of large machines do."""

MILLION = 1_000_000
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Site:
    """A machine to plan with.

    memory_bytes       for the model; None where it has what the model takes
    disk_bytes_per_s   None where nobody said
    watts, idle_watts  at full load and doing nothing
    is_measured        its speeds were, on this very machine
    chunk              tokens of a prompt that run in one step
    """

    name: str
    title: str
    rates: Speeds
    memory_bytes: float | None
    disk_bytes_per_s: float | None
    watts: float
    idle_watts: float
    is_measured: bool
    source: str
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        require_positive(watts=self.watts)
        require_rate(idle_watts=self.idle_watts)


def site_of(hardware: Hardware, memory: float | None = None, disk: float | None = None) -> Site:
    """Published hardware, with a budget of memory below what it has, and a disk.

    Raises CostError for more memory than it has.
    """
    has = hardware.total_memory_bytes
    if memory is not None and has is not None and memory > has:
        raise CostError(
            f"{hardware.name} has {has / 1e9:.0f} GB of memory, less than the {memory / 1e9:.1f} GB that "
            f"were asked for; several of them are written as in 8x{hardware.name}"
        )
    rates = hardware.rates()
    several = f"{hardware.devices} x " if hardware.devices > 1 else ""
    return Site(
        f"{hardware.devices}x{hardware.name}" if hardware.devices > 1 else hardware.name,
        several + hardware.title,
        rates,
        has if memory is None else memory,
        disk,
        hardware.total_watts,
        hardware.idle_watts,
        is_measured=False,
        source=hardware.source,
        chunk=SERVED_CHUNK if rates.knows_compute else CHUNK,
    )


def site_here(
    machine: Machine,
    threads: int,
    watts: float,
    idle_watts: float,
    memory: float | None = None,
    disk: float | None = None,
) -> Site:
    """The machine that was measured, with so many threads; its disk unless another speed is given.

    Raises CostError for more memory than it has.
    """
    if memory is not None and memory > machine.memory_bytes:
        raise CostError(
            f"this machine has {machine.memory_bytes / 1e9:.1f} GB of memory, less than the "
            f"{memory / 1e9:.1f} GB that were asked for"
        )
    plural = "s" if threads > 1 else ""
    return Site(
        "here",
        f"{machine.processor}, {threads} thread{plural}",
        machine.rates[threads],
        machine.memory_bytes if memory is None else memory,
        machine.disk_bytes_per_s if disk is None else disk,
        watts,
        idle_watts,
        is_measured=True,
        source=f"measured on {machine.date}, {machine.kernels}",
    )


@dataclass(frozen=True)
class Prediction:
    """What is to be expected of a model on a machine.

    hit_rate  share of the experts of a decoding step that are in memory
    decode    one step of the batch
    prefill   one prompt; None where nobody knows how fast the machine computes
    """

    site: Site
    load: Load
    tiers: Tiers
    hit_rate: float
    decode: Timing
    prefill: Timing | None

    @property
    def tokens_per_s(self) -> float:
        """Of all sequences together; `tokens_per_s_each` of one."""
        return self.decode.tokens_per_s

    @property
    def tokens_per_s_each(self) -> float:
        return self.decode.tokens_per_s / self.load.batch

    @property
    def watts(self) -> tuple[float, float, float]:
        """While decoding: the least, the best guess, the most."""
        idle, full = self.site.idle_watts, self.site.watts
        return idle, idle + (full - idle) * self.decode.busy_share, full

    @property
    def joules(self) -> tuple[float, float, float]:
        """Of a decoded token, modelled: the least, the best guess, the most."""
        low, best, high = (watts / self.tokens_per_s for watts in self.watts)
        return low, best, high

    def grams(self, intensity: Intensity) -> float:
        """Of CO2 equivalent for a million decoded tokens, by the best guess."""
        return intensity.grams(self.joules[1] * MILLION)

    def electricity(self, per_kwh: float) -> float:
        """Price of the electricity of a million decoded tokens, by the best guess."""
        require_rate(per_kwh=per_kwh)
        return self.joules[1] * MILLION / JOULES_PER_KWH * per_kwh

    def rent(self, per_hour: float) -> float:
        """Rent of the machine for a million decoded tokens."""
        require_rate(per_hour=per_hour)
        return MILLION / self.tokens_per_s / SECONDS_PER_HOUR * per_hour


def predict(
    config: ModelConfig,
    site: Site,
    load: Load = Load(),  # noqa: B008  frozen
    storage: Storage | None = None,
    hit_rate: float | None = None,
) -> Prediction:
    """Place a model on a machine and time it.

    hit_rate  of a decoding step where some experts are on disk; None takes the share that is in memory, as
              if routes favoured no expert. Where all experts are in memory it is 1 whatever is given

    Raises CostError where the model does not fit, with the smallest budget that runs, and where experts would
    have to come from a disk of which nobody said how fast it is.
    """
    if hit_rate is not None:
        require_share(hit_rate=hit_rate)
    load = replace(load, chunk=site.chunk)
    try:
        tiers = place(config, load, storage, site.memory_bytes)
    except CostError as error:
        raise CostError(f"{site.name}: {error}") from None
    is_whole = not tiers.on_disk
    if not is_whole and site.disk_bytes_per_s is None:
        raise CostError(
            f"{site.name}: the model takes {tiers.whole / 1e9:.1f} GB of the "
            f"{(site.memory_bytes or 0) / 1e9:.1f} GB there are, so experts come from disk; say how fast it "
            "is read, as in --disk 7GB/s"
        )
    found = 1.0 if is_whole else tiers.resident_share if hit_rate is None else hit_rate
    decode = decode_timing(config, site.rates, load, storage, Experts(found, site.disk_bytes_per_s))
    prefill = None
    if site.rates.knows_compute:
        resident = Experts(tiers.resident_share, site.disk_bytes_per_s)
        prefill = prefill_timing(config, site.rates, load, storage, resident)
    return Prediction(site, load, tiers, found, decode, prefill)
