"""Rows from engines whose seconds are known."""

import pytest

from araio.meters.energy import Energy
from araio.testing import turns
from araio.testing.turns import Case, measure


class Scripted:
    """An engine whose calls take the seconds of a list, and which tells a log when it was asked."""

    def __init__(self, name, seconds, log):
        self.threads = 0
        self.name, self.seconds, self.log = name, iter(seconds), log

    def prefill(self, tokens):
        self.log.append((self.name, self.threads))
        return next(self.seconds)


@pytest.fixture
def log(monkeypatch):
    events: list[tuple[str, int]] = []
    speeds = iter([10e9, 30e9, 20e9] * 10)

    def read(threads, rounds):
        events.append(("memory", threads))
        return next(speeds)

    monkeypatch.setattr(turns, "read_bandwidth", read)
    return events


def case(token_bytes=None):
    return Case("prefill 12", 12, lambda one: one.prefill(12), token_bytes)


def test_a_row_is_the_median_of_the_rounds_after_the_first(log) -> None:
    ours = Scripted("ours", [99.0, 1.0, 3.0, 2.0], log)
    memory, row = measure(ours, [case(token_bytes=10**9)], [2], rounds=3)
    assert (row.name, row.unit) == ("prefill 12, 2 threads", "tok/s")
    assert (row.value, row.low, row.high) == (6.0, 4.0, 12.0)
    assert (row.limit, row.fraction_of_limit) == (20.0, 0.3)
    assert (row.peer, row.ratio, row.ratio_low, row.ratio_high) == (None,) * 4
    assert (memory.name, memory.unit) == ("reading memory, 2 threads", "bytes/s")
    assert (memory.value, memory.low, memory.high) == (20e9, 10e9, 30e9)


def test_engines_take_turns_and_memory_is_read_between_them(log) -> None:
    ours, theirs = Scripted("ours", [9, 2, 2], log), Scripted("theirs", [9, 3, 5], log)
    _, row = measure(ours, [case()], [1], rounds=2, peer=theirs)
    turn = [("ours", 1), ("theirs", 1)]
    assert log == [*turn, *turn, ("memory", 1), *turn, ("memory", 1)]
    assert (row.value, row.peer, row.ratio) == (6.0, 3.0, 2.0)
    assert (row.ratio_low, row.ratio_high) == (1.5, 2.5)


def test_the_energy_of_a_row_is_per_token_and_of_the_rounds_that_count(log) -> None:
    ours = Scripted("ours", [1.0] * 4, log)
    joules = iter([999.0, 24.0, 12.0, 36.0])

    def last() -> Energy:
        best = next(joules)
        return Energy(best, best / 2, best * 2, best / 4, "model:tdp")

    memory, row = measure(ours, [case()], [1], rounds=3, last_energy=last)
    assert (row.joules_per_token, row.joules_low, row.joules_high) == (2.0, 0.5, 6.0)
    assert (row.idle_joules, row.joules_method) == (0.5, "model:tdp")
    assert (memory.joules_per_token, memory.joules_method) == (None, None)


def test_idling_that_nobody_measured_stays_unknown(log) -> None:
    ours = Scripted("ours", [1.0] * 2, log)
    _, row = measure(
        ours, [case()], [1], rounds=1, last_energy=lambda: Energy(12.0, 12.0, 12.0, None, "rapl")
    )
    assert (row.joules_per_token, row.idle_joules) == (1.0, None)


def test_a_case_that_memory_does_not_bound_has_no_limit(log) -> None:
    _, row = measure(Scripted("ours", [1, 1], log), [case()], [1], rounds=1)
    assert (row.limit, row.fraction_of_limit) == (None, None)


def test_every_number_of_threads_is_measured_and_every_turn_told(log) -> None:
    told: list[tuple[str, int, int]] = []
    ours = Scripted("ours", [1] * 4, log)
    rows = measure(ours, [case()], [1, 2], 1, on_turn=lambda *turn: told.append(turn))
    assert [row.name for row in rows] == [
        "reading memory, 1 thread",
        "prefill 12, 1 thread",
        "reading memory, 2 threads",
        "prefill 12, 2 threads",
    ]
    names = ["prefill 12, 1 thread"] * 2 + ["prefill 12, 2 threads"] * 2
    assert told == [(name, done, 4) for done, name in enumerate(names)]
    assert log == [("ours", 1), ("ours", 1), ("memory", 1), ("ours", 2), ("ours", 2), ("memory", 2)]
