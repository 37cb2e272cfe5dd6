"""The model: its arithmetic, its table, and what it says of itself."""

import pytest

from araio.errors import CostError
from araio.meters import modelled
from araio.meters.modelled import ModelledCounter, Power, estimate_power
from araio.meters.processors import PROCESSORS, find_processor

EPYC = "AMD EPYC 7763 64-Core Processor"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Four threads and 16 GB."""
    monkeypatch.delenv("ARAIO_TDP", raising=False)
    monkeypatch.setattr(modelled.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})

    class Memory:
        total = 16_000_000_000

    monkeypatch.setattr(modelled.psutil, "virtual_memory", Memory)


def test_a_known_processor_lends_the_share_of_its_threads():
    power = estimate_power(processor=EPYC)
    assert (power.name, power.full_watts, power.dram_watts) == ("tdp", 280 * 4 / 128, 6.0)
    assert power.idle_watts == pytest.approx(0.875 + 6.0)
    assert "280 W of EPYC 7763 x 4 of 128 threads" in power.explanation


def test_an_unknown_processor_counts_by_thread_and_says_so():
    power = estimate_power(processor="AMD EPYC")
    assert (power.name, power.full_watts) == ("per-thread", 16.0)
    assert "4 W x 4 threads" in power.explanation
    assert "AMD EPYC" in power.explanation


def test_watts_of_ones_own(monkeypatch):
    monkeypatch.setenv("ARAIO_TDP", "45")
    assert estimate_power(processor=EPYC).full_watts == 45
    assert estimate_power(30, processor=EPYC).full_watts == 30
    assert estimate_power(30).name == "given-tdp"


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "many"])
def test_watts_that_are_none(monkeypatch, text):
    monkeypatch.setenv("ARAIO_TDP", text)
    with pytest.raises(CostError, match=r"ARAIO_TDP is .* expected auto or watts above 0"):
        estimate_power()


def test_power_is_idle_and_the_rest_by_utilisation(monkeypatch):
    clock = {"monotonic": 100.0, "process_time": 7.0}
    for name in clock:
        monkeypatch.setattr(modelled.time, name, lambda name=name: clock[name])
    counter = ModelledCounter(Power("tdp", full_watts=40.0, dram_watts=6.0, threads=4, explanation=""))
    before = counter.joules()
    clock["monotonic"] += 10  # half of the threads busy for ten seconds
    clock["process_time"] += 20
    utilisation = 20 / (10 * 4)
    assert counter.joules() - before == pytest.approx(10 * (4 + (40 - 4) * utilisation + 6))
    assert counter.bounds(8.0, 10) == (4.0, 16.0)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", "Gold 6248R"),
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "Gold 6248"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "i9-13900K"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Platinum 8480+"),
        ("AMD EPYC", None),
        ("", None),
    ],
)
def test_names_are_found_as_whole_words(name, found):
    assert find_processor(name) == found


def test_the_table_is_of_real_machines():
    # Between a tablet's and a workstation's processor, in watts a thread.
    assert all(0.5 < watts / threads < 10 for watts, threads in PROCESSORS.values())
