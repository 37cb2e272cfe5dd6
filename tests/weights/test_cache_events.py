"""Events of streamed experts: all of them, in order, on the clock of the recording."""

import numpy as np
import pytest

import araio
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.traces import CacheEvent
from araio.weights import cache_events, load
from araio.weights.cache_events import CacheEventLog
from araio.weights.machine_memory import MachineMemory

from .streams import streamed


def test_events_are_taken_in_order_and_once():
    log = CacheEventLog([3, 4], experts=8, record_bytes=100)
    log.add(CacheEvent.HIT, np.array([1, 9]))
    log.add(CacheEvent.MISS, np.array([], np.int64))
    log.clock = 7
    log.add(CacheEvent.MISS, np.array([10]), 250)
    events = log.take()
    assert [column.tolist() for column in events] == [
        [0, 0, 7],
        [3, 4, 4],
        [1, 1, 2],
        [CacheEvent.HIT, CacheEvent.HIT, CacheEvent.MISS],
        [0, 0, 100],
        [0, 0, 250],
    ]
    assert len(log.take().t) == 0


def test_what_nobody_takes_is_bounded(monkeypatch):
    monkeypatch.setattr(cache_events, "MOST_EVENTS", 10)
    log = CacheEventLog([0], experts=8, record_bytes=1)
    for clock in range(20):
        log.clock = clock
        log.add(CacheEvent.EVICT, np.arange(2))
    events = log.take()
    assert events.t.tolist() == [clock for clock in range(15, 20) for _ in range(2)]
    assert log.dropped == 30


@pytest.mark.parametrize("slots", [2, 9, 20])
def test_events_tell_all_that_happens_to_the_places(tmp_path, slots):
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    model, source = streamed(tmp_path / "tiny", slots)
    cache = model.new_cache()
    model.forward(np.arange(1, 9), cache)
    before, here = source.counters, set(source.in_memory)
    log = source.record_events()
    for token in range(20):
        log.clock = token
        model.forward(np.array([token]), cache, absorbed=True)
    events, counts = log.take(), source.counters.since(before)
    kinds = [CacheEvent(kind) for kind in events.kind]
    uses = kinds.count(CacheEvent.HIT) + kinds.count(CacheEvent.MISS)
    assert uses == counts.uses == 20 * len(model.config.moe_layers) * model.config.num_experts_per_tok
    assert kinds.count(CacheEvent.MISS) == counts.missed
    assert (np.diff(events.t) >= 0).all()
    keys = (events.layer.astype(int) - model.config.moe_layers[0]) * source._experts + events.expert
    for key, kind in zip(keys.tolist(), kinds, strict=True):
        if kind is CacheEvent.EVICT:
            here.discard(key)
        elif kind is CacheEvent.HIT:
            assert key in here
        else:
            here.add(key)
    assert set(source.in_memory) <= here
    assert (events.bytes[events.kind == CacheEvent.MISS] == source.record_bytes).all()
    source.forget_events()
    model.forward(np.array([1]), cache, absorbed=True)
    assert len(log.take().t) == 0


def test_a_recording_of_a_streamed_model_has_its_events(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    budget = araio.load(tmp_path / "tiny", threads=1, cache_tokens=4096).budget
    ram = (budget.smallest + budget.whole) // 2
    model = araio.load(tmp_path / "tiny", threads=1, ram=ram, cache_tokens=4096)
    with model.trace(tmp_path / "x.moetrace") as recording:
        model.complete([1, 2, 3, 4], max_tokens=20)
    trace = recording.trace()
    events = trace.cache_events
    assert {CacheEvent.HIT, CacheEvent.MISS} <= set(events.kind)
    assert events.t.max() < trace.tokens
    # Each use of an expert in a step is an event; a prompt's tokens use each expert once.
    decoded = np.isin(events.kind, [CacheEvent.HIT, CacheEvent.MISS]) & (events.t >= 4)
    assert decoded.sum() == (trace.tokens - 4) * trace.n_layers * trace.header.top_k
    assert model.experts.events is None
