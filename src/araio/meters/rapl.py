"""RAPL through Linux' powercap: the processor's own count of its joules, and that of its memory.

All packages and their DRAM are added. `psys` counts a whole board, packages included, and is left out, as
are `core` and `uncore`, which are parts of a package. Some processors show one zone per die for what is one
counter; zones of a package that stand at the same value count once. Read `meter.py` next.
"""

from __future__ import annotations

from pathlib import Path

from araio.meters.energy import NoCounterError

__all__ = ["POWERCAP", "RaplCounter"]

POWERCAP = Path("/sys/class/powercap")

MICRO = 1e-6

# Far more than a package draws between two readings, far less than two dies differ by after a minute.
MIRROR_UJ = 1_000_000

# Since a side channel of 2020 (CVE-2020-8694) kernels let root alone read the counters.
GRANT = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"


class RaplCounter:
    """Joules of all packages and their DRAM.

    root  where powercap lies; tests have a folder of their own

    Raises NoCounterError where there are no zones, or they may not be read.
    """

    method = "rapl"

    def __init__(self, root: Path = POWERCAP) -> None:
        self.idle_watts: float | None = None
        # Zones of the memory-mapped interface, `intel-rapl-mmio:N`, repeat those of the registers.
        named = [(folder, _text(folder / "name")) for folder in sorted(root.glob("intel-rapl:*"))]
        zones = [
            _Zone(folder, name) for folder, name in named if name.startswith("package-") or name == "dram"
        ]
        self._zones = _without_mirrors(zones)
        if not any(zone.name.startswith("package-") for zone in zones):
            found = f"only {named[0][1]}" if named else "no zone of a processor"
            raise NoCounterError(f"{root} has {found}; virtual machines and old processors count no package")

    def joules(self) -> float:
        """What the processors drew since this object was made.

        A counter wraps, after 20 minutes or more at full load; ask at least that often.
        """
        return sum(zone.advance() for zone in self._zones) * MICRO

    def bounds(self, joules: float, seconds: float) -> tuple[float, float]:
        """The counter is taken at its word; it is updated every millisecond."""
        return joules, joules


class _Zone:
    """One counter and what it has counted since the first look, in microjoules."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / "energy_uj"
        self.name = name
        self._range = _number(folder / "max_energy_range_uj")
        self.last = _number(self._file)
        self._counted = 0

    def advance(self) -> int:
        now = _number(self._file)
        # The value behind the largest is 0.
        self._counted += now - self.last if now >= self.last else now - self.last + self._range + 1
        self.last = now
        return self._counted

    def mirrors(self, other: _Zone) -> bool:
        """Whether both are dies of one package that show one counter, read microseconds apart."""
        one, two = self.name.partition("-die-"), other.name.partition("-die-")
        same_package = bool(one[1]) and one[0] == two[0]
        return same_package and abs(self.last - other.last) < MIRROR_UJ


def _without_mirrors(zones: list[_Zone]) -> list[_Zone]:
    kept: list[_Zone] = []
    for zone in zones:
        if not any(zone.mirrors(other) for other in kept):
            kept.append(zone)
    return kept


def _number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise NoCounterError(f"{path} holds {text!r}, which is no count")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        raise NoCounterError(
            f"{path} may be read by root only; let everyone read it until the next start with `{GRANT}`, or "
            "for good with a udev rule: "
            'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r %S%p/energy_uj"'
        ) from None
    except OSError as error:
        raise NoCounterError(f"{path} cannot be read ({error.strerror})") from None
