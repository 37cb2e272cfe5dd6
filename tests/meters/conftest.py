"""A powercap tree on disk, as Linux shows it, whose counters a test moves."""

from pathlib import Path

import pytest

RANGE = 262_143_328_850  # of a real package: 2^32 steps of 61 microjoules


class Powercap:
    """Zones below a folder; all of them lie side by side, as the real ones do."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, zone: str, name: str, microjoules: int = 0) -> None:
        folder = self.root / zone
        folder.mkdir()
        (folder / "name").write_text(name + "\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.set(zone, microjoules)

    def set(self, zone: str, microjoules: int) -> None:
        (self.root / zone / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def powercap(tmp_path):
    return Powercap(tmp_path)
