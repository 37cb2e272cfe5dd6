"""RAPL over a tree of files: what is added, what is not, and what happens at the end of a counter."""

import os
import tempfile
from pathlib import Path

import pytest

from araio.meters.energy import NoCounterError
from araio.meters.rapl import RaplCounter

from .conftest import RANGE, Powercap


def test_packages_and_memory_are_added_and_nothing_twice(powercap):
    powercap.add("intel-rapl:0", "package-0", 1_000)
    powercap.add("intel-rapl:0:0", "core", 500)
    powercap.add("intel-rapl:0:1", "dram", 100)
    powercap.add("intel-rapl:1", "package-1", 7_000)
    powercap.add("intel-rapl:2", "psys", 9_000)
    powercap.add("intel-rapl-mmio:0", "package-0", 1_000)
    counter = RaplCounter(powercap.root)
    assert counter.joules() == 0
    for zone, now in (("0", 3_001_000), ("0:0", 2_000_500), ("0:1", 500_100), ("1", 1_007_000)):
        powercap.set(f"intel-rapl:{zone}", now)
    powercap.set("intel-rapl:2", 99_000_000)
    powercap.set("intel-rapl-mmio:0", 3_001_000)
    assert counter.joules() == pytest.approx(3.0 + 0.5 + 1.0)
    assert counter.bounds(4.5, 1.0) == (4.5, 4.5)


def test_a_counter_that_wraps_goes_on(powercap):
    powercap.add("intel-rapl:0", "package-0", RANGE - 1_000_000)
    counter = RaplCounter(powercap.root)
    powercap.set("intel-rapl:0", 1_999_999)
    assert counter.joules() == pytest.approx(3.0)
    powercap.set("intel-rapl:0", 2_999_999)
    assert counter.joules() == pytest.approx(4.0)


@pytest.mark.parametrize(("second", "joules"), [(5_000_010, 1.0), (900_000_000, 2.0)])
def test_dies_that_show_one_counter_count_once(powercap, second, joules):
    powercap.add("intel-rapl:0", "package-0-die-0", 5_000_000)
    powercap.add("intel-rapl:1", "package-0-die-1", second)
    counter = RaplCounter(powercap.root)
    powercap.set("intel-rapl:0", 6_000_000)
    powercap.set("intel-rapl:1", second + 1_000_000)
    assert counter.joules() == pytest.approx(joules)


def test_two_packages_are_two_even_where_they_stand_alike(powercap):
    powercap.add("intel-rapl:0", "package-0", 5_000_000)
    powercap.add("intel-rapl:1", "package-1", 5_000_000)
    counter = RaplCounter(powercap.root)
    powercap.set("intel-rapl:0", 6_000_000)
    powercap.set("intel-rapl:1", 6_000_000)
    assert counter.joules() == pytest.approx(2.0)


@pytest.mark.parametrize(("zones", "found"), [([], "no zone of a processor"), (["psys"], "only psys")])
def test_without_a_package_there_is_a_reason(powercap, zones, found):
    for number, name in enumerate(zones):
        powercap.add(f"intel-rapl:{number}", name)
    with pytest.raises(NoCounterError, match=found):
        RaplCounter(powercap.root)


def test_a_tree_that_is_not_there(tmp_path):
    with pytest.raises(NoCounterError, match="virtual machines"):
        RaplCounter(tmp_path / "powercap")


def test_a_counter_for_root_alone_tells_what_to_do():
    nobody, me = 65534, os.geteuid()
    # Not pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        tree = Powercap(root)
        tree.add("intel-rapl:0", "package-0")
        (root / "intel-rapl:0" / "energy_uj").chmod(0o000)
        if me == 0:
            os.seteuid(nobody)
        try:
            with pytest.raises(NoCounterError, match=r"root only.*chmod a\+r.*udev rule"):
                RaplCounter(root)
        finally:
            os.seteuid(me)
