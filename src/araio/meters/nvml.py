"""NVML: the count of joules that an NVIDIA board keeps, or its power, added up where it keeps none.

For windows of seconds, never for single tokens: the sensor sees a quarter of the time of an A100 or H100, and
its error is constant over a window and not over a kernel (Yang et al. 2023, "Part-time Power Measurements",
arXiv 2312.02741). What a window's bounds are made of stands in `bounds`. Read `meter.py` next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from araio.meters.energy import NoCounterError

__all__ = ["NvmlCounter"]

MILLI = 1e-3

# What the paper above finds of the sensors: about 5 % of the power, and one value in up to 100 ms.
SENSOR_ERROR = 0.05
SENSOR_PERIOD_S = 0.1


class NvmlCounter:
    """Joules of every board that the driver shows, whoever uses it.

    Raises NoCounterError without the library, without a driver, and without a board.
    """

    method = "nvml"

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError:
            raise NoCounterError("nvidia-ml-py is not installed; pip install nvidia-ml-py") from None
        self.idle_watts: float | None = None
        self._library = pynvml
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            self._boards = [self._board(handle) for handle in handles]
        except pynvml.NVMLError as error:
            raise NoCounterError(f"no NVIDIA board can be asked ({error})") from None
        if not self._boards:
            raise NoCounterError("the NVIDIA driver shows no board")

    def joules(self) -> float:
        """What the boards drew since the driver was loaded, or since this object was made.

        Raises NoCounterError if a board answers no more.
        """
        try:
            return sum(board() for board in self._boards)
        except self._library.NVMLError as error:
            raise NoCounterError(f"an NVIDIA board cannot be asked any more ({error})") from None

    def bounds(self, joules: float, seconds: float) -> tuple[float, float]:
        """The sensor's error, and one value of it that a window may miss or count too much at either end."""
        error = joules * min(1.0, SENSOR_ERROR + SENSOR_PERIOD_S / seconds) if seconds > 0 else joules
        return joules - error, joules + error

    def _board(self, handle: Any) -> Callable[[], float]:
        """A function that gives a board's joules: Volta and later count them themselves."""
        library = self._library

        def counted() -> float:
            return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) * MILLI

        try:
            counted()
        except library.NVMLError_NotSupported:
            watts = _PowerIntegral(
                lambda: library.nvmlDeviceGetPowerUsage(handle) * MILLI, stops_at=library.NVMLError
            )
            return watts.joules
        return counted


class _PowerIntegral:
    """Joules of a board that only tells its power: a thread asks it, and adds up.

    watts     asks the board
    stops_at  what it raises when it answers no more; whoever asks for joules next is told
    """

    def __init__(self, watts: Callable[[], float], stops_at: type[Exception]) -> None:
        self._watts = watts
        self._stops_at = stops_at
        self._lock = threading.Lock()
        self._joules = 0.0
        self._last = time.monotonic(), self._watts()
        threading.Thread(target=self._sample, daemon=True, name="araio-nvml").start()

    def joules(self) -> float:
        with self._lock:
            then, before = self._last
            self._last = now, watts = time.monotonic(), self._watts()
            self._joules += (now - then) * (before + watts) / 2
            return self._joules

    def _sample(self) -> None:
        with suppress(self._stops_at):
            while True:
                time.sleep(SENSOR_PERIOD_S)
                self.joules()
