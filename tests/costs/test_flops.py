"""Operations in closed form against those that a running model asks for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.config import ModelConfig
from araio.costs.flops import Flops, decode_flops, prefill_flops, training_flops
from araio.costs.parameters import count_parameters
from araio.errors import CostError
from araio.formats.store_layout import StoreCodecs
from araio.nn.model import Model
from araio.testing.checkpoints import FAMILIES, tiny_config
from araio.testing.random_weights import random_model
from araio.weights.load import load_model
from araio.weights.locate import locate, locate_config

from .conftest import configs
from .recorder import Recorder


def recorded(recorder: Recorder) -> Flops:
    return Flops(2 * recorder.weights, 2 * recorder.attention)


def ids_of(config: ModelConfig, count: int) -> np.ndarray:
    return np.arange(count) % config.vocab_size


def check_one_model(model: Model, recorder: Recorder, cached: int, tokens: int) -> None:
    """A prompt behind cached positions, then a decoded token, counted while they run."""
    config, cache = model.config, model.new_cache()
    if cached:
        model.forward(ids_of(config, cached), cache)
    recorder.reset()
    model.logits(model.forward(ids_of(config, tokens), cache)[-1:])
    assert recorded(recorder) == prefill_flops(config, tokens, cached)
    recorder.reset()
    model.logits(model.forward(ids_of(config, 1), cache, absorbed=True))
    assert recorded(recorder) == decode_flops(config, cached + tokens + 1)


@settings(max_examples=40)
@given(configs(), st.integers(0, 9), st.integers(1, 9))
def test_random_models_ask_for_what_is_counted(config, cached, tokens):
    recorder = Recorder()
    check_one_model(
        random_model(config, StoreCodecs("f32", "f32", "f32"), recorder.ops), recorder, cached, tokens
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_asks_for_what_is_counted(family):
    recorder = Recorder()
    model = random_model(tiny_config(family), StoreCodecs("f32", "f32", "f32"), recorder.ops)
    check_one_model(model, recorder, cached=5, tokens=7)


def test_pocket_asks_for_what_is_counted():
    recorder = Recorder()
    model = load_model(locate("pocket"), recorder.ops)
    check_one_model(model, recorder, cached=0, tokens=12)


@given(configs(), st.integers(1, 100))
def test_a_prompt_is_its_tokens_one_by_one_in_the_expanded_form(config, tokens):
    """But for the output matrix, which only the last token meets."""
    one_by_one = [decode_flops(config, context, "expanded") for context in range(1, tokens + 1)]
    together = prefill_flops(config, tokens)
    assert together.attention == sum(step.attention for step in one_by_one)
    head = 2 * config.vocab_size * config.hidden_size
    assert together.weights == sum(step.weights for step in one_by_one) - (tokens - 1) * head


@given(configs(), st.integers(1, 100))
def test_training_is_three_forward_passes(config, length):
    forward = [decode_flops(config, context, "expanded") for context in range(1, length + 1)]
    trained = training_flops(config, length)
    assert length * trained.total == 3 * sum(step.total for step in forward)
    all_pairs = training_flops(config, length, causal=False)
    assert all_pairs.total == 3 * decode_flops(config, length, "expanded").total


@pytest.mark.parametrize("preset", ["deepseek-r1", "deepseek-v2-lite", "kimi-k2", "pocket"])
def test_two_operations_per_active_parameter(preset):
    """Matrices are nearly all of a model: norms and biases change the published count by 0.2 % or less."""
    config = locate_config(preset)
    weights = decode_flops(config, 1).weights
    assert weights == pytest.approx(2 * count_parameters(config).model.active, rel=0.002)


def test_absorbed_attention_costs_more_operations(r1):
    expanded, absorbed = decode_flops(r1, 4989, "expanded"), decode_flops(r1, 4989)
    assert absorbed.weights == expanded.weights == pytest.approx(73.25e9, rel=1e-4)
    assert (expanded.attention, absorbed.attention) == (
        pytest.approx(24.9e9, rel=2e-3),
        pytest.approx(84.8e9, rel=2e-3),
    )
    for form, context in (("absorbed", 4_312), ("expanded", 14_659)):
        before, after = decode_flops(r1, context - 1, form), decode_flops(r1, context, form)
        assert before.attention < before.weights <= after.attention
    assert decode_flops(r1, 131_072).attention == pytest.approx(2227e9, rel=1e-3)


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (lambda config: decode_flops(config, 0), "context is 0; expected a whole number of at least 1"),
        (lambda config: decode_flops(config, -5), "context is -5"),
        (lambda config: decode_flops(config, 1, "latent"), "form is 'latent'; expected absorbed or expanded"),
        (lambda config: prefill_flops(config, 0), "tokens is 0"),
        (lambda config: prefill_flops(config, 1, cached=-1), "cached is -1"),
        (lambda config: prefill_flops(config, 1.5), "tokens is 1.5"),
        (lambda config: training_flops(config, True), "length is True"),
    ],
)
def test_what_nothing_can_be_counted_with_is_refused(r1, count, found):
    with pytest.raises(CostError, match=found):
        count(r1)
