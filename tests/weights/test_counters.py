"""What has been counted: differences, and the same as Prometheus names it."""

import re
from dataclasses import asdict

from araio.weights.counters import StreamCounters

COUNTED = StreamCounters(
    pinned=1,
    cached=20,
    prefetched=3,
    missed=4,
    reads=8,
    read_bytes=800,
    unused_bytes=100,
    wait_s=0.5,
    busy_s=2.0,
)


def test_uses_are_hits_and_misses() -> None:
    assert (COUNTED.uses, COUNTED.hits) == (28, 24)


def test_what_came_after_a_copy_is_the_difference() -> None:
    assert COUNTED.since(COUNTED.copy()) == StreamCounters()
    assert COUNTED.since(StreamCounters(cached=5, wait_s=0.25)).cached == 15


def test_samples_have_every_count_once_under_a_name_that_prometheus_takes() -> None:
    samples = COUNTED.samples()
    assert sorted(samples.values()) == sorted(asdict(COUNTED).values())
    assert samples['araio_experts_total{outcome="cached"}'] == 20
    assert samples["araio_expert_wait_seconds_total"] == 0.5
    name = re.compile(r'[a-z_]+_total(\{outcome="[a-z]+"\})?')
    assert all(name.fullmatch(sample) for sample in samples)
