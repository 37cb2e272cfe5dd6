"""The cross-check of energy, with a tracker that says what it is told."""

import sys
from argparse import Namespace
from types import ModuleType, SimpleNamespace

import check_energy
import pytest

from araio.testing.checkpoints import write_tiny_checkpoint


class Tracker:
    """Has counted 2 J of a processor and 3 J of memory once it was stopped."""

    def __init__(self, **options):
        assert options["country_iso_code"] == "FRA"
        assert options["save_to_file"] is False
        self.calls = []

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    @property
    def final_emissions_data(self):
        assert self.calls == ["start", "stop"]
        return SimpleNamespace(energy_consumed=5 / 3.6e6, cpu_energy=2 / 3.6e6, ram_energy=3 / 3.6e6)


def test_both_stand_beside_each_other(tmp_path, monkeypatch):
    write_tiny_checkpoint(tmp_path, "v3", max_position_embeddings=512)
    library = ModuleType("codecarbon")
    library.OfflineEmissionsTracker = Tracker
    monkeypatch.setitem(sys.modules, "codecarbon", library)
    report = check_energy.compare(Namespace(model=str(tmp_path), seconds=0.1, country="FRA"))
    ours, theirs = report["araio"], report["codecarbon"]
    assert report["tokens"] >= 256
    assert [theirs[name] for name in ("joules", "cpu_joules", "ram_joules")] == pytest.approx([5, 2, 3])
    assert report["ratio"] == pytest.approx(ours["joules"] / 5)
    assert theirs["grams_co2e"] / 5 == pytest.approx(ours["grams_co2e"] / ours["joules"])
    assert "France" in check_energy.text(report)


def test_without_it_there_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(SystemExit, match=r"pip install 'araio\[energy-check\]'"):
        check_energy.compare(Namespace(model="pocket", seconds=0.1, country="WORLD"))
