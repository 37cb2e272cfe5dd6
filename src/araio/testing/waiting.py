"""`eventually`: waits for what will come to pass, however slow the machine is that runs the tests.

The limit is for tests that would hang; how long something takes is measured in `benchmarks/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["PATIENCE_S", "eventually"]

PATIENCE_S = 120.0
"""Far more than anything takes that a test waits for."""


def eventually(holds: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until it holds.

    Raises:
        AssertionError: it did not.
    """
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)
