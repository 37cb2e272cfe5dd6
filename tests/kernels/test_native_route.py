"""The compiled router against the reference: both families, ties, and logits that are not numbers."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from araio.config import ModelConfig
from araio.kernels import reference
from araio.kernels.native import CompiledOperations
from araio.tensors import Float32Array
from araio.testing.checkpoints import tiny_config

pytestmark = pytest.mark.native


def operations(extension) -> CompiledOperations:
    """Of one instruction set: the router is the same code in all."""
    return CompiledOperations(extension, extension.isas()[0])


@st.composite
def rules(draw: st.DrawFn) -> ModelConfig:
    """Every way of choosing, with sizes that a config accepts."""
    config = tiny_config(draw(st.sampled_from(["v2-lite", "v2", "v3"])))
    groups = 1 if config.topk_method == "greedy" else draw(st.integers(1, 5))
    size = draw(st.integers(2, 20))
    kept = draw(st.integers(1, groups))
    return replace(
        config,
        n_routed_experts=groups * size,
        n_group=groups,
        topk_group=kept,
        num_experts_per_tok=draw(st.integers(1, kept * size)),
        norm_topk_prob=draw(st.booleans()),
        routed_scaling_factor=draw(st.sampled_from([1.0, 2.5, 16.0])),
    )


def bias_of(config: ModelConfig, rng: np.random.Generator) -> Float32Array | None:
    """Distinct numbers, far enough apart not to be a matter of rounding; at times all negative."""
    if config.scoring_func == "softmax":
        return None
    level = rng.choice([-3, 0, 3])
    return (level + 0.013 * rng.permutation(config.n_routed_experts)).astype(np.float32)


def check(ours, logits: Float32Array, bias: Float32Array | None, config: ModelConfig) -> None:
    ids, weights = ours.route(logits, bias, config)
    with np.errstate(all="ignore"):
        expected_ids, expected_weights = reference.route(logits, bias, config)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-7)
    assert (ids.dtype, weights.dtype) == (np.int32, np.float32)


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(0, 6), rules())
def test_it_chooses_and_weighs_as_the_reference(extension, seed: int, T: int, config: ModelConfig) -> None:
    rng, E = np.random.default_rng(seed), config.n_routed_experts
    # Permutations of distinct levels: no two scores, nor sums of two, are so close that rounding decides.
    logits = rng.permuted(np.tile(np.linspace(-2, 2, E) ** 3, (T, 1)), axis=1).astype(np.float32)
    check(operations(extension), logits, bias_of(config, rng), config)


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(0, 6), rules())
def test_ties_go_to_the_lowest_ids_and_groups(extension, seed: int, T: int, config: ModelConfig) -> None:
    rng, E = np.random.default_rng(seed), config.n_routed_experts
    logits = rng.choice(np.array([-1, 0, 2], np.float32), (T, E))
    bias = None if config.scoring_func == "softmax" else np.zeros(E, np.float32)
    check(operations(extension), logits, bias, config)


@settings(max_examples=150)
@given(st.integers(0, 2**32), rules(), st.floats(0, 1))
def test_logits_that_are_no_numbers_lose_as_in_the_reference(extension, seed, config, share) -> None:
    rng, E = np.random.default_rng(seed), config.n_routed_experts
    bad = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38], np.float32)
    logits = np.where(rng.random((3, E)) < share, rng.choice(bad, (3, E)), rng.choice([-1, 0, 2], (3, E)))
    bias = None if config.scoring_func == "softmax" else np.zeros(E, np.float32)
    check(operations(extension), logits.astype(np.float32), bias, config)


@pytest.mark.parametrize("family", ["v2", "v3"])
def test_configs_may_take_turns(extension, family: str) -> None:
    ours, rng = operations(extension), np.random.default_rng(0)
    first = tiny_config(family)
    for config in (first, replace(first, num_experts_per_tok=1), first, replace(first, norm_topk_prob=False)):
        logits = rng.standard_normal((3, config.n_routed_experts)).astype(np.float32)
        check(ours, logits, bias_of(config, rng), config)


LOGITS, BIAS = np.zeros((2, 8), np.float32), np.zeros(8, np.float32)
IDS, WEIGHTS = np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("logits", "bias", "ids", "weights"),
    [
        (LOGITS, None, IDS, WEIGHTS),
        (LOGITS, BIAS[:7], IDS, WEIGHTS),
        (LOGITS, BIAS, IDS[:1], WEIGHTS),
        (LOGITS, BIAS, IDS, WEIGHTS[:1]),
        (LOGITS, BIAS, np.zeros((2, 4), np.int32), WEIGHTS),
        (np.zeros((2, 2), np.float32), np.zeros(2, np.float32), IDS, WEIGHTS),
        (np.zeros((2, 9), np.float32), np.zeros(9, np.float32), IDS, WEIGHTS),
    ],
)
def test_sizes_that_do_not_fit_are_refused(extension, logits, bias, ids, weights) -> None:
    routing = extension.routing(True, 2, 1, 3, True, 1.0)
    with pytest.raises(ValueError, match="must"):
        operations(extension).compiled.route(routing, logits, bias, ids, weights)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (2, 0, 1), (2, 3, 1), (1, 1, 0)])
def test_a_rule_that_cannot_be_is_refused(extension, numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        extension.routing(True, *numbers, True, 1.0)
