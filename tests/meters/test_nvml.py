"""NVML, whose library a module with the same few functions stands in for."""

import sys
from types import ModuleType

import pytest

from araio.meters import nvml
from araio.meters.energy import NoCounterError
from araio.meters.nvml import NvmlCounter


class NVMLError(Exception):
    pass


class NotSupportedError(NVMLError):
    pass


class Boards:
    """Two boards: their millijoules, or None where they keep none, and their milliwatts."""

    def __init__(self):
        self.millijoules = [10_000, 20_000]
        self.milliwatts = [0, 0]

    def energy(self, handle):
        if self.millijoules[handle] is None:
            raise NotSupportedError("Not Supported")
        return self.millijoules[handle]


@pytest.fixture
def boards(monkeypatch):
    library, boards = ModuleType("pynvml"), Boards()
    library.NVMLError, library.NVMLError_NotSupported = NVMLError, NotSupportedError
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetCount = lambda: len(boards.millijoules)
    library.nvmlDeviceGetHandleByIndex = lambda index: index
    library.nvmlDeviceGetTotalEnergyConsumption = boards.energy
    library.nvmlDeviceGetPowerUsage = lambda handle: boards.milliwatts[handle]
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return boards


def test_boards_are_added(boards):
    counter = NvmlCounter()
    before = counter.joules()
    boards.millijoules = [11_500, 20_500]
    assert counter.joules() - before == pytest.approx(2.0)


def test_the_bounds_are_wide_for_a_moment_and_narrow_for_a_minute(boards):
    counter = NvmlCounter()
    assert counter.bounds(100.0, 10.0) == pytest.approx((94.0, 106.0))
    assert counter.bounds(100.0, 0.01) == (0.0, 200.0)
    assert counter.bounds(0.0, 0.0) == (0.0, 0.0)


def test_a_board_without_a_count_has_its_power_added_up(boards, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(nvml.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(nvml.threading.Thread, "start", lambda thread: None)
    boards.millijoules, boards.milliwatts = [None], [100_000]
    counter = NvmlCounter()
    clock[0], boards.milliwatts[0] = 2.0, 200_000
    assert counter.joules() == pytest.approx(2 * 150)
    clock[0] = 3.0
    assert counter.joules() == pytest.approx(2 * 150 + 200)


def test_without_the_library_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoCounterError, match="pip install nvidia-ml-py"):
        NvmlCounter()


def test_without_a_driver_or_a_board_there_is_a_reason(boards, monkeypatch):
    boards.millijoules = []
    with pytest.raises(NoCounterError, match="shows no board"):
        NvmlCounter()

    def missing():
        raise NVMLError("NVML Shared Library Not Found")

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlInit", missing)
    with pytest.raises(NoCounterError, match="NVML Shared Library Not Found"):
        NvmlCounter()


@pytest.mark.parametrize("keeps_count", [True, False])
def test_a_board_that_answers_no_more_is_told(boards, monkeypatch, keeps_count):
    def lost(handle):
        raise NVMLError("GPU is lost")

    monkeypatch.setattr(nvml.threading.Thread, "start", lambda thread: None)
    boards.millijoules = [10_000 if keeps_count else None]
    counter = NvmlCounter()
    name = "nvmlDeviceGetTotalEnergyConsumption" if keeps_count else "nvmlDeviceGetPowerUsage"
    monkeypatch.setattr(sys.modules["pynvml"], name, lost)
    with pytest.raises(NoCounterError, match="GPU is lost"):
        counter.joules()
    if not keeps_count:  # the thread that adds up ends without a word
        counter._boards[0].__self__._sample()
