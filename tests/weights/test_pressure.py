"""Memory that others need: when experts leave for it, and that they come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.machine_memory import SPARED, MachineMemory
from araio.weights.pressure import EVERY_S, Pressure

from .streams import check, scores, streamed

TOTAL = 800 * SPARED  # so that 800 bytes are spared, and 400 are the reserve
IDS = np.random.default_rng(8).integers(0, 250, 12)


class Machine:
    """A machine whose free memory and time a test sets."""

    def __init__(self, available: int) -> None:
        self.available, self.now_s, self.looks = available, 0.0, 0

    def memory(self) -> MachineMemory:
        self.looks += 1
        return MachineMemory(TOTAL, self.available, 0)

    def excess(self, pressure: Pressure) -> int:
        self.now_s += EVERY_S
        return pressure.excess()


@pytest.mark.parametrize(
    ("available", "excess"),
    [(0, 400), (399, 1), (400, 0), (800, 0), (801, -1), (5000, -4200)],
)
def test_below_the_reserve_memory_is_owed_and_above_what_is_spared_it_may_be_taken(
    available: int, excess: int
) -> None:
    machine = Machine(available)
    assert machine.excess(Pressure(machine.memory, lambda: machine.now_s)) == excess


def test_it_looks_only_now_and_then() -> None:
    machine = Machine(0)
    pressure = Pressure(machine.memory, lambda: machine.now_s)
    assert [pressure.excess() for _ in range(5)] == [0] * 5
    assert machine.looks == 0
    assert machine.excess(pressure) == 400
    assert (pressure.excess(), machine.looks) == (0, 1)


def test_experts_leave_and_return_and_the_text_does_not_notice(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3", n_routed_experts=64, n_group=1, topk_group=1)
    _, whole = streamed(tmp_path, 192)
    model, source = streamed(tmp_path, 100)
    expected = scores(model, IDS, 4, 4)
    owed = [7 * whole.record_bytes]

    class Neighbours(Pressure):
        def excess(self) -> int:
            return owed[0]

    source._pressure = Neighbours()
    np.testing.assert_array_equal(scores(model, IDS, 4, 4), expected)
    check(source)
    lent = source.lent
    assert 50 < lent <= 100 - 32  # some are kept whatever others need
    owed[0] = -20 * whole.record_bytes
    model.forward(IDS[:1], model.new_cache())
    assert source.lent == lent - 20


def test_what_is_pinned_leaves_room_for_what_runs(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3", n_routed_experts=64, n_group=1, topk_group=1)
    model, source = streamed(tmp_path, 100, pins={1: range(64)})
    expected = scores(model, IDS, 4, 4)

    class Neighbours(Pressure):
        def excess(self) -> int:
            return 1 << 40

    source._pressure = Neighbours()
    np.testing.assert_array_equal(scores(model, IDS, 4, 4), expected)
    assert source.lent <= 100 - 64 - 32


def test_what_was_lent_comes_back(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3", n_routed_experts=64, n_group=1, topk_group=1)
    model, source = streamed(tmp_path, 100)
    expected = scores(model, IDS, 4, 4)
    owed = [1 << 40]

    class Neighbours(Pressure):
        def excess(self) -> int:
            return owed[0]

    source._pressure = Neighbours()
    scores(model, IDS, 4, 4)
    owed[0] = -(1 << 40)
    np.testing.assert_array_equal(scores(model, IDS, 4, 4), expected)
    check(source)
    assert (source.lent, source.held) == (0, 100)
