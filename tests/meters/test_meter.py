"""Windows over counters, and the choice of a counter."""

import sys

import pytest

from araio.errors import CostError
from araio.meters import meter as meter_module
from araio.meters import nvml
from araio.meters.energy import Energy, NoCounterError
from araio.meters.meter import Mark, Meter, choose_meter
from araio.meters.rapl import RaplCounter


class Fixed:
    """A counter that says what it is told."""

    def __init__(self, method, idle_watts=None, error=0.0):
        self.method, self.idle_watts, self.error, self.now = method, idle_watts, error, 0.0

    def joules(self):
        return self.now

    def bounds(self, joules, seconds):
        return joules * (1 - self.error), joules * (1 + self.error)


def test_devices_add_up():
    meter = Meter([Fixed("rapl", 3.0), Fixed("nvml", 50.0, error=0.25)])
    energy = meter.between(Mark(10.0, (100.0, 1000.0)), Mark(12.0, (110.0, 1200.0)))
    assert energy == Energy(210.0, 160.0, 260.0, 106.0, "rapl+nvml")


def test_idling_is_unknown_until_every_counter_knows_it():
    meter = Meter([Fixed("rapl", 3.0), Fixed("nvml")])
    assert meter.idle_watts is None
    assert meter.between(Mark(0.0, (0.0, 0.0)), Mark(1.0, (5.0, 9.0))).idle_joules is None


def test_idling_never_exceeds_the_whole():
    energy = Meter([Fixed("rapl", 30.0)]).between(Mark(0.0, (0.0,)), Mark(1.0, (20.0,)))
    assert energy.idle_joules == 20.0


def test_idling_is_observed_where_it_is_measured(monkeypatch):
    counter, modelled = Fixed("rapl"), Fixed("model:tdp", 4.0)
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds
        counter.now += 6.0

    monkeypatch.setattr(meter_module.time, "sleep", sleep)
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: clock[0])
    for each in (counter, modelled):
        Meter([each]).observe_idle(2.0)
    assert (counter.idle_watts, modelled.idle_watts) == (3.0, 4.0)
    assert clock[0] == 2.0  # nobody waits for what the model knows


def test_what_is_counted_is_preferred(powercap):
    powercap.add("intel-rapl:0", "package-0")
    meter = choose_meter(powercap=powercap.root)
    assert (meter.method, meter.is_modelled) == ("rapl", False)
    powercap.set("intel-rapl:0", 2_500_000)
    assert meter.between(Mark(0.0, (0.0,)), meter.mark()).joules == pytest.approx(2.5)


def test_without_counters_the_model_serves_and_every_reason_is_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = choose_meter(gpus=True, tdp=40, powercap=tmp_path)
    assert (meter.method, meter.is_modelled) == ("model:given-tdp", True)
    rapl, nvml, model = meter.reasons
    assert rapl.startswith("no rapl: ")
    assert nvml.startswith("no nvml: ")
    assert model.startswith("model:given-tdp: 40 W as given, memory 0.375 W/GB")
    start = meter.mark()
    energy = meter.between(start, meter.mark())
    assert energy.low == energy.joules / 2
    assert energy.high == energy.joules * 2
    assert 0 <= energy.idle_joules <= energy.joules


def test_measured_joules_are_never_added_to_modelled_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(nvml, "NvmlCounter", lambda: Fixed("nvml"))
    assert choose_meter(gpus=True, powercap=tmp_path).method == "nvml"


def test_the_model_stands_in_for_a_counter_that_can_be_read_no_more(powercap):
    """The window that was open is modelled as a whole: nothing measured is in it."""
    powercap.add("intel-rapl:0", "package-0")
    meter = choose_meter(tdp=40, powercap=powercap.root)
    start = meter.mark()
    powercap.set("intel-rapl:0", 10**9)
    middle = meter.mark()
    (powercap.root / "intel-rapl:0" / "energy_uj").write_text("")
    end = meter.mark()
    for window in (meter.between(start, end), meter.between(start, middle)):
        assert window.method == "model:given-tdp"
        assert 0 < window.joules < 100
        assert (window.low, window.high) == (window.joules / 2, window.joules * 2)
    assert meter.is_modelled
    assert meter.mark().joules[0] >= end.joules[0]
    assert meter.reasons[0].startswith("no rapl: ")
    assert meter.serving[0].startswith("model:given-tdp: 40 W as given")


def test_without_a_stand_in_it_is_told(powercap):
    powercap.add("intel-rapl:0", "package-0")
    meter = Meter([RaplCounter(powercap.root)])
    (powercap.root / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(NoCounterError, match="cannot be read"):
        meter.mark()


def test_a_wrong_tdp_is_told_even_where_it_is_not_needed(powercap):
    powercap.add("intel-rapl:0", "package-0")
    with pytest.raises(CostError, match="expected watts above 0"):
        choose_meter(tdp=-1, powercap=powercap.root)
