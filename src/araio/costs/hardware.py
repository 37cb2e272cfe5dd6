"""`Hardware`: machines as their makers publish them, with what is reached of the peak told apart from it.

The table lies in `data/hardware.toml`, a row for each device with its source. A peak is never reached: where
somebody measured the best matrix product, that counts; elsewhere a share of the peak that is stated here, as
is the share of the bandwidth. A machine at hand is better measured: `machine.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType

from araio.codecs import CODECS
from araio.costs.checks import require_positive, require_share
from araio.costs.speeds import Attention, Curve, Fixed, Product, Speeds
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["Hardware", "find_hardware", "known_hardware"]

# Stated, not measured by us. Products: what is measured of NVIDIA's reaches 0.71 to 0.87 of the peak, and of
# AMD's 0.51 to 0.63. Reading: programs like STREAM come to four fifths of what is printed, or a bit more.
COMPUTE_SHARE, AMD_COMPUTE_SHARE = 0.75, 0.55
READ_SHARE = 0.8

# Several devices work as one, but not all of the time: experts are loaded unevenly, and tokens travel.
PARALLEL_SHARE = 0.7
# Seconds of a layer that no size explains: about fifteen kernels of a few microseconds on a GPU, and where
# there are several, a dispatch to the experts and a way back.
LAUNCH_S, EXCHANGE_S = 50e-6, 50e-6

# A device that does nothing draws about a tenth of its full power; the rule of CodeCarbon for processors.
IDLE_SHARE = 0.1

_FILE = Path(__file__).parent / "data" / "hardware.toml"
_SEVERAL = re.compile(r"([1-9][0-9]{0,3})x(.+)")


@dataclass(frozen=True)
class Hardware:
    """Several devices of one kind that work together, most often one.

    memory_bytes  of each; None where it is whatever was built in
    bytes_per_s   peak of each
    peak          operations per second of each, dense, by number format; empty where nobody printed them
    reached       of the same, the best that somebody measured
    watts         of each at full load
    """

    name: str
    title: str
    source: str
    memory_bytes: float | None
    bytes_per_s: float
    watts: float
    peak: Mapping[str, float] = field(default_factory=dict)
    reached: Mapping[str, float] = field(default_factory=dict)
    devices: int = 1

    def __post_init__(self) -> None:
        require_positive(bytes_per_s=self.bytes_per_s, watts=self.watts, devices=self.devices)

    @property
    def total_memory_bytes(self) -> float | None:
        """Of all devices."""
        return None if self.memory_bytes is None else self.devices * self.memory_bytes

    @property
    def total_watts(self) -> float:
        """Of all devices at full load."""
        return self.devices * self.watts

    @property
    def idle_watts(self) -> float:
        """Of all devices when they do nothing; stated, a tenth."""
        return IDLE_SHARE * self.total_watts

    def flops(self, number: str) -> float | None:
        """Operations per second of one device that can be had in a number format, measured or stated."""
        if number in self.reached:
            return self.reached[number]
        share = AMD_COMPUTE_SHARE if self.name.startswith("mi") else COMPUTE_SHARE
        return share * self.peak[number] if number in self.peak else None

    def rates(self) -> Speeds:
        """All devices as one machine.

        Products run in FP8 where weights are FP8 and the device has it, otherwise in bfloat16; integers are
        made bfloat16 on the way.
        """
        together = self.devices * (PARALLEL_SHARE if self.devices > 1 else 1.0)
        bandwidth = together * READ_SHARE * self.bytes_per_s
        plain = self.flops("bf16")
        if plain is None:
            return Speeds(bandwidth)
        speeds = dict.fromkeys(CODECS, plain) | {"fp8": self.flops("fp8") or plain}
        layer = LAUNCH_S + (EXCHANGE_S if self.devices > 1 else 0.0)
        return Speeds(
            bandwidth,
            products={codec: Product(Curve.flat(together * speed)) for codec, speed in speeds.items()},
            attention=Attention(Curve.flat(together * plain), together * plain),
            fixed=Fixed(dense_layer=layer, moe_layer=layer),
        )


def find_hardware(name: str) -> Hardware:
    """A device by its name, or several of them: `m4-max`, `8xb200-sxm`; `b200` is enough where it is clear.

    Raises CostError, with the names of the table, for one that is not in it.
    """
    table, wanted, devices = known_hardware(), name.strip().lower(), 1
    if several := _SEVERAL.fullmatch(wanted):
        devices, wanted = int(several[1]), several[2]
    meant = [wanted] if wanted in table else [known for known in table if known.startswith(f"{wanted}-")]
    if len(meant) == 1:
        return replace(table[meant[0]], devices=devices)
    near = meant or get_close_matches(wanted, table, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise CostError(f"no hardware is called {shown(name)}; {hint}known: {', '.join(table)}, here")


@cache
def known_hardware() -> MappingProxyType[str, Hardware]:
    """Every device of the table by its name."""
    with _FILE.open("rb") as handle:
        rows = tomllib.load(handle)
    return MappingProxyType({name: _device(name, **row) for name, row in rows.items()})


def _device(
    name: str,
    *,
    title: str,
    source: str,
    bandwidth_gb_per_s: float,
    watts: float,
    memory_gb: float | None = None,
    peak_tflops: Mapping[str, float] = MappingProxyType({}),
    reached_tflops: Mapping[str, float] = MappingProxyType({}),
) -> Hardware:
    for number, speed in reached_tflops.items():
        require_share(reached_of_peak=speed / peak_tflops[number])
    return Hardware(
        name,
        title,
        source,
        None if memory_gb is None else memory_gb * 1e9,
        bandwidth_gb_per_s * 1e9,
        watts,
        {number: speed * 1e12 for number, speed in peak_tflops.items()},
        {number: speed * 1e12 for number, speed in reached_tflops.items()},
    )
