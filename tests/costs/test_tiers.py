"""Where a model lies under a budget: the parts add up, and more memory never leaves more on disk."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.config import ModelConfig
from araio.costs.parameters import count_parameters
from araio.costs.storage import Storage
from araio.costs.tiers import Load, place
from araio.costs.twins import twin_of_active_size, twin_of_total_size
from araio.errors import CostError
from araio.testing.checkpoints import tiny_config


def test_r1_without_a_budget_lies_in_memory_as_a_whole(r1):
    tiers = place(r1, Load(batch=1, context=32_768))
    assert tiers.dense + tiers.experts == 673_150_611_808
    assert tiers.experts == 58 * 256 * 44_050_944
    assert tiers.cache == 70_272 * 32_768
    assert tiers.on_disk == 0
    assert tiers.resident_share == 1
    assert tiers.in_memory == tiers.whole


def test_r1_in_64_gib_keeps_whole_experts_within_the_budget(r1):
    budget = 64 * 2**30
    tiers = place(r1, Load(), budget=budget)
    assert tiers.experts % 44_050_944 == 0
    assert tiers.experts + tiers.on_disk == 58 * 256 * 44_050_944
    assert budget - 44_050_944 < tiers.in_memory <= budget
    assert tiers.resident_share == tiers.experts / (tiers.experts + tiers.on_disk)


def test_the_smallest_budget_runs_and_a_byte_less_does_not(r1):
    smallest = place(r1, Load()).smallest
    assert place(r1, Load(), budget=smallest).experts == 0
    with pytest.raises(CostError, match=r"GB of memory are too few: 20\.3 GB are the least that runs"):
        place(r1, Load(), budget=smallest - 1)


@pytest.mark.parametrize("context", range(16, 60, 4))
def test_the_smallest_budget_that_is_named_runs(context):
    config, load = tiny_config("v3"), Load(context=context, prompt=16)
    with pytest.raises(CostError, match=r"too few: [0-9.]+ MB are the least that runs") as caught:
        place(config, load, budget=1000)
    named = re.findall(r"([0-9.]+) MB", str(caught.value))[1]
    assert place(config, load, budget=float(named) * 1e6).in_memory <= float(named) * 1e6


def test_a_dense_model_runs_as_a_whole_or_not_at_all():
    config = tiny_config("v3", n_routed_experts=0, num_experts_per_tok=0)
    tiers = place(config, Load(context=64, prompt=64))
    assert tiers.smallest == tiers.step == tiers.whole
    assert tiers.resident_share == 1


@given(
    st.sampled_from(["v2-lite", "v3", "v3-fp8"]),
    st.integers(1, 64),
    st.integers(1, 512),
    st.floats(0, 1.5),
    st.floats(0, 1),
)
def test_more_memory_keeps_no_fewer_experts(family, batch, context, more, less):
    config, load = tiny_config(family), Load(batch=batch, context=context, prompt=16)
    bounds = place(config, load)
    low, high = sorted((less, max(less, more)))
    span = bounds.whole - bounds.smallest
    tiers = [place(config, load, budget=bounds.smallest + share * span) for share in (low, high)]
    assert tiers[0].experts <= tiers[1].experts
    for one in tiers:
        assert bounds.smallest <= bounds.step <= bounds.whole
        assert one.dense + one.experts + one.on_disk == count_parameters(config).model.bytes


def test_twins_have_the_sizes_that_they_are_called_after(r1):
    whole, used = twin_of_total_size(r1), twin_of_active_size(r1)
    of_r1, of_whole, of_used = (count_parameters(config).model for config in (r1, whole, used))
    assert of_whole.total == of_r1.total
    assert of_whole.active == of_whole.total - r1.vocab_size * r1.hidden_size
    gates = 58 * (7168 + 1) * (256 - 8)
    assert of_used.active == of_r1.active - gates
    assert of_used.total - r1.vocab_size * r1.hidden_size == of_used.active


def test_no_twin_of_a_dense_model():
    with pytest.raises(CostError, match="no layer of this"):
        twin_of_total_size(tiny_config("v3", n_routed_experts=0, num_experts_per_tok=0))


@pytest.mark.parametrize("key", ["batch", "context", "prompt", "chunk"])
def test_a_load_of_nothing_is_refused(key):
    with pytest.raises(CostError, match=f"{key} is 0"):
        Load(**{key: 0})


def test_fewer_bits_take_less(r1: ModelConfig):
    assert place(r1, Load(), Storage("q4", "q4", "q4")).smallest < place(r1, Load()).smallest
