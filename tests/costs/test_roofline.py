"""Predicted times: one example by hand, and what must hold of every machine and model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.costs.hardware import find_hardware, known_hardware
from araio.costs.plan import Site, predict, site_of
from araio.costs.roofline import Experts, decode_timing, prefill_timing
from araio.costs.speeds import Attention, Curve, Fixed, Product, Speeds
from araio.costs.storage import Storage
from araio.costs.tiers import Load, place
from araio.costs.traffic import decode_bytes
from araio.errors import CostError
from araio.testing.checkpoints import tiny_config

RAM, DISK = 100e9, 7e9
CONTEXT = 1000
DENSE = 37_668_489_568 - 20_439_638_016  # of R1 in FP8, all that does not depend on the routes
SHARED = 58 * 44_050_944
EXPERTS = 20_439_638_016  # 58 layers, 8 experts each
CACHE = CONTEXT * 70_272


def site(rates: Speeds, memory: float | None = None, disk: float | None = DISK) -> Site:
    return Site("test", "a test", rates, memory, disk, 100, 10, is_measured=False, source="")


def test_r1_by_hand_on_a_machine_of_which_only_the_memory_is_known(r1):
    timing = decode_timing(r1, Speeds(RAM), Load(context=CONTEXT))
    assert timing.read_bytes == DENSE + EXPERTS + CACHE
    assert timing.seconds == pytest.approx((DENSE + EXPERTS + CACHE) / RAM, rel=1e-12)
    assert timing.bound == "memory"
    assert timing.read_bytes == decode_bytes(r1, 1, CONTEXT).total


@pytest.mark.parametrize("hits", [0.0, 0.7, 0.99])
def test_r1_by_hand_with_experts_on_disk(r1, hits):
    timing = decode_timing(r1, Speeds(RAM), Load(context=CONTEXT), experts=Experts(hits, DISK))
    beside, disk = (SHARED + hits * EXPERTS) / RAM, (1 - hits) * EXPERTS / DISK
    others = (DENSE - SHARED + CACHE) / RAM
    assert timing.seconds == pytest.approx(others + max(beside, disk), rel=1e-9)
    assert timing.read_ahead_s == pytest.approx(max(others + beside, disk), rel=1e-9)
    assert timing.disk_bytes == pytest.approx((1 - hits) * EXPERTS)
    assert timing.bound == ("disk" if hits < 0.9 else "memory")
    assert sum(timing.shares.values()) == pytest.approx(1)


def test_operations_bound_where_they_are_slow(r1):
    slow = Speeds(
        1e15, {name: Product(Curve.flat(1e12)) for name in ("fp8", "bf16")}, Attention(Curve.flat(1e12), 1e12)
    )
    timing = decode_timing(r1, slow, Load(context=CONTEXT))
    # 73.25 GFLOP with weights, and absorbed attention.
    attention = 2 * 61 * 128 * (576 + 512) * CONTEXT
    assert timing.operations == pytest.approx(73.2e9 + attention, rel=2e-3)
    assert timing.seconds == pytest.approx(timing.operations / 1e12, rel=2e-3)
    assert timing.bound == "compute"


def test_a_prompt_in_pieces_expands_earlier_ones_again():
    config, rates = tiny_config("v3"), find_hardware("h100-sxm").rates()
    whole = prefill_timing(config, rates, Load(prompt=64, chunk=64))
    pieces = prefill_timing(config, rates, Load(prompt=64, chunk=16))
    assert pieces.operations > whole.operations
    assert pieces.read_bytes > whole.read_bytes
    assert pieces.fixed_s == pytest.approx(4 * whole.fixed_s)
    assert pieces.seconds > whole.seconds


machines = st.sampled_from([*known_hardware()]).map(lambda name: find_hardware(name).rates())
models = st.sampled_from(["v2-lite", "v2", "v3", "v3-fp8", "moonlight"]).map(tiny_config)


@given(machines, models, st.integers(1, 32), st.integers(1, 256), st.floats(1, 10))
def test_more_bandwidth_is_never_slower(rates, config, batch, context, times):
    load = Load(batch=batch, context=context, prompt=context)
    faster = replace(rates, bytes_per_s=rates.bytes_per_s * times)
    for timing in (decode_timing, prefill_timing):
        assert timing(config, faster, load).seconds <= timing(config, rates, load).seconds * (1 + 1e-9)


@given(machines, models, st.integers(1, 64), st.integers(1, 64), st.integers(1, 256))
def test_a_larger_batch_never_gives_fewer_tokens(rates, config, batch, more, context):
    small, large = Load(batch=batch, context=context), Load(batch=batch + more, context=context)
    few, many = decode_timing(config, rates, small), decode_timing(config, rates, large)
    assert many.tokens_per_s >= few.tokens_per_s * (1 - 1e-9)
    assert many.tokens_per_s / (batch + more) <= few.tokens_per_s / batch * (1 + 1e-9)


@given(machines, models, st.floats(0, 1), st.floats(0, 1))
def test_more_hits_are_never_slower_and_all_of_them_are_memory(rates, config, one, other):
    few, many = sorted((one, other))
    times = [decode_timing(config, rates, Load(), experts=Experts(h, 1e9)) for h in (few, many, 1.0)]
    assert times[0].seconds * (1 + 1e-9) >= times[1].seconds
    assert times[2] == decode_timing(config, rates, Load())


@settings(max_examples=30)
@given(models, st.floats(0, 1), st.floats(0, 1), st.integers(1, 8))
def test_more_memory_is_never_slower(config, one, other, batch):
    load = Load(batch=batch, context=32, prompt=32, chunk=32)
    bounds = place(config, replace(load, chunk=512))
    budgets = [bounds.smallest + share * (bounds.whole - bounds.smallest) for share in sorted((one, other))]
    slow, fast = (predict(config, site(Speeds(RAM), budget), load).decode.seconds for budget in budgets)
    assert fast <= slow * (1 + 1e-9)


def test_a_hit_rate_counts_for_nothing_where_everything_is_in_memory(r1):
    there = site(Speeds(RAM))
    assert predict(r1, there, Load(), hit_rate=0.1) == predict(r1, there, Load())


def test_without_a_hit_rate_the_share_in_memory_stands_in(r1):
    found = predict(r1, site(Speeds(RAM), 64 * 2**30), Load())
    assert found.hit_rate == found.tiers.resident_share
    assert found.prefill is None


def test_experts_without_a_disk_are_refused(r1):
    with pytest.raises(CostError, match="experts come from disk; say how fast it is read"):
        predict(r1, site(Speeds(RAM), 64 * 2**30, disk=None), Load())
    with pytest.raises(CostError, match="some experts come from disk"):
        Experts(0.5)


def test_more_memory_than_a_machine_has_is_refused():
    with pytest.raises(CostError, match=r"m4-max has 128 GB of memory, less than the 200\.0 GB"):
        site_of(find_hardware("m4-max"), memory=200e9)


def test_joules_lie_between_a_machine_that_idles_and_one_at_full_power(r1):
    found = predict(r1, site_of(find_hardware("8xb200")), Load(batch=64))
    low, best, high = found.joules
    assert low < best < high
    assert high == pytest.approx(8000 / found.tokens_per_s)
    assert found.electricity(0.36) == pytest.approx(best * 0.1)
    assert found.rent(3.6) == pytest.approx(1000 / found.tokens_per_s)


def test_a_measured_machine_takes_what_its_kernels_took():
    config = tiny_config("v3")
    storage = Storage("q8", "q8", "q8")
    product = Product(Curve.flat(1e9), Curve.flat(1e8), absorbed=1e9)
    rates = Speeds(
        1e12, dict.fromkeys(("q8", "f32"), product), Attention(Curve.flat(1e9), 1e9), Fixed(step=0.5)
    )
    streamed = decode_timing(config, rates, Load(), storage)
    cached = decode_timing(config, replace(rates, cache_bytes=1 << 30), Load(), storage)
    head = {part.name: part for part in streamed.parts}["output matrix"]
    assert head.seconds == pytest.approx(head.operations / 1e8)
    assert cached.seconds < streamed.seconds
    assert cached.fixed_s == 0.5
    assert {part.name: part for part in cached.parts}["output matrix"].seconds == head.operations / 1e9


def test_a_codec_that_was_not_measured_is_refused():
    rates = Speeds(1e9, {"q8": Product(Curve.flat(1e9))}, Attention(Curve.flat(1e9), 1e9))
    with pytest.raises(CostError, match="multiplies by bf16 is unknown; known: q8"):
        decode_timing(tiny_config("v3"), rates, Load())


def test_between_two_sizes_time_is_a_straight_line():
    curve = Curve((1.0, 2.0, 4.0), (10.0, 20.0, 20.0))
    assert [size / curve.at(size) for size in (1, 1.5, 2, 3, 4)] == pytest.approx([0.1, 0.1, 0.1, 0.15, 0.2])
    assert (curve.at(0.5), curve.at(100)) == (10, 20)


@pytest.mark.parametrize(
    ("sizes", "speeds"), [((), ()), ((1.0,), ()), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (0.0,))]
)
def test_what_is_no_curve(sizes, speeds):
    with pytest.raises(CostError):
        Curve(sizes, speeds)
