"""The machine as benchmarks see it: all of the memory is read, by as many threads as were asked for."""

import math
import os

import numpy as np
import pytest

from araio.testing import machine


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(machine, "READ_BYTES", 1 << 20)
    machine._memory.cache_clear()
    yield
    machine._memory.cache_clear()


@pytest.mark.parametrize("threads", [1, 3])
def test_every_round_reads_every_byte_once(little_memory, monkeypatch, threads) -> None:
    parts: list[np.ndarray] = []
    monkeypatch.setattr(machine, "_read", parts.append)
    assert math.isfinite(machine.read_bandwidth(threads, rounds=2))
    assert len(parts) == 3 * threads  # the first time starts the threads
    starts = {part.__array_interface__["data"][0]: part.nbytes for part in parts}
    assert len(starts) == threads
    assert sum(starts.values()) == machine.READ_BYTES


def test_bandwidth_is_bytes_over_the_median_of_seconds(little_memory, monkeypatch) -> None:
    clock = iter([0.0, 1.0, 1.0, 3.0, 3.0, 103.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    assert machine.read_bandwidth(1, rounds=3) == machine.READ_BYTES / 2.0


def test_the_processor_is_described() -> None:
    found = machine.describe_processor()
    assert found["name"]
    assert 1 <= found["cores_usable"] == machine.usable_processors() <= found["cores_total"]
    assert set(found["vector_instructions"]) <= set(machine.VECTOR_FLAGS)


def test_processors_that_the_process_may_not_use_do_not_count(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6}, raising=False)
    assert machine.usable_processors() == 3
