"""Both router families: worked by hand where rules differ between engines, then against transformers."""

from dataclasses import replace
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from araio.config import ModelConfig
from araio.kernels.reference import route, sigmoid, softmax
from araio.tensors import Float32Array
from araio.testing.checkpoints import tiny_config


def rule(family: str, **changes: object) -> ModelConfig:
    return replace(tiny_config(family), **changes)


def logits_of(probabilities: list[float]) -> Float32Array:
    return np.log(np.array([probabilities], np.float32))


def logit(scores: list[float]) -> Float32Array:
    s = np.array([scores])
    return np.log(s / (1 - s)).astype(np.float32)


def test_greedy_softmax_takes_the_largest_and_does_not_normalise() -> None:
    config = rule("v2-lite", n_routed_experts=4, num_experts_per_tok=2)
    ids, weights = route(logits_of([0.1, 0.4, 0.2, 0.3]), None, config)
    assert ids.tolist() == [[1, 3]]
    np.testing.assert_allclose(weights, [[0.4, 0.3]], rtol=1e-6)


def test_softmax_normalises_or_scales_but_never_both() -> None:
    config = rule("v2-lite", n_routed_experts=4, num_experts_per_tok=2, routed_scaling_factor=16.0)
    logits = logits_of([0.1, 0.4, 0.2, 0.3])
    np.testing.assert_allclose(route(logits, None, config)[1], [[6.4, 4.8]], rtol=1e-6)
    config = replace(config, norm_topk_prob=True)
    np.testing.assert_allclose(route(logits, None, config)[1], [[4 / 7, 3 / 7]], rtol=1e-6)
    config = replace(config, num_experts_per_tok=1)  # one expert is not normalised to weight 1
    np.testing.assert_allclose(route(logits, None, config)[1], [[6.4]], rtol=1e-6)


def test_v2_scores_a_group_by_its_best_expert() -> None:
    # By the sum of two, the second group would win; by the best one, the first does.
    config = rule("v2", n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2)
    ids, _ = route(logits_of([0.4, 0.05, 0.25, 0.3]), None, config)
    assert ids.tolist() == [[0, 1]]


def test_v3_scores_a_group_by_its_best_two() -> None:
    config = rule("v3", n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2)
    ids, weights = route(logit([0.9, 0.1, 0.6, 0.7]), np.zeros(4, np.float32), config)
    assert ids.tolist() == [[3, 2]]
    np.testing.assert_allclose(weights, [[2.5 * 0.7 / 1.3, 2.5 * 0.6 / 1.3]], rtol=1e-5)


def test_v3_bias_moves_the_choice_and_not_the_weights() -> None:
    config = rule("v3", n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2)
    bias = np.array([0, 0, 0.5, 0], np.float32)
    ids, weights = route(logit([0.8, 0.7, 0.4, 0.1]), bias, config)
    assert ids.tolist() == [[2, 0]]
    np.testing.assert_allclose(weights, [[2.5 / 3, 5 / 3]], rtol=1e-5)


def test_v3_with_every_biased_score_negative_stays_inside_the_best_groups() -> None:
    # A mask of 0 instead of -inf would prefer the experts of the losing group.
    config = rule("v3", n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2)
    bias = np.full(4, -3, np.float32)
    ids, _ = route(logit([0.1, 0.2, 0.8, 0.9]), bias, config)
    assert ids.tolist() == [[3, 2]]


@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_ties_go_to_the_lowest_ids_and_groups(family: str) -> None:
    config = tiny_config(family)
    bias = np.zeros(config.n_routed_experts, np.float32) if family == "v3" else None
    ids, weights = route(np.zeros((2, config.n_routed_experts), np.float32), bias, config)
    assert ids.tolist() == [list(range(config.num_experts_per_tok))] * 2
    assert len(np.unique(weights)) == 1


def test_a_tie_in_one_place_leaves_the_rest_alone() -> None:
    config = rule("v3", n_routed_experts=6, n_group=1, topk_group=1, num_experts_per_tok=3)
    ids, _ = route(logit([0.3, 0.5, 0.9, 0.5, 0.5, 0.1]), np.zeros(6, np.float32), config)
    assert ids.tolist() == [[2, 1, 3]]


@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_no_token_gives_no_choice(family: str) -> None:
    config = tiny_config(family)
    bias = np.zeros(config.n_routed_experts, np.float32) if family == "v3" else None
    ids, weights = route(np.zeros((0, config.n_routed_experts), np.float32), bias, config)
    assert ids.shape == weights.shape == (0, config.num_experts_per_tok)
    assert ids.dtype == np.int32


def theirs(
    logits: Float32Array, bias: Float32Array | None, config: ModelConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Transformers' router with an identity weight, so that its input is the logits."""
    E = config.n_routed_experts
    kind = DeepseekV2TopkRouter if bias is None else DeepseekV3TopkRouter
    names = ("num_experts_per_tok", "routed_scaling_factor", "topk_method", "n_group", "topk_group")
    settings = {name: getattr(config, name) for name in (*names, "norm_topk_prob")}
    router = kind(SimpleNamespace(**settings, num_experts=E, num_local_experts=E, hidden_size=E))
    router.weight.data = torch.eye(E)
    if bias is not None:
        router.e_score_correction_bias = torch.from_numpy(bias)
    with torch.no_grad():
        _, weights, ids = router(torch.from_numpy(logits))
    return ids.numpy(), weights.numpy()


@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
@given(seed=st.integers(0, 2**32), level=st.sampled_from([-4.0, 0.0, 4.0]))
def test_it_chooses_and_weighs_as_transformers_does(family: str, seed: int, level: float) -> None:
    config = tiny_config(family)
    rng, shape = np.random.default_rng(seed), (7, config.n_routed_experts)
    # Random permutations of distinct levels: no two scores are close enough for rounding to decide.
    steps = rng.permuted(np.tile(np.linspace(-2, 2, shape[1]), (shape[0], 1)), axis=1)
    bias = (level + 0.013 * rng.permutation(shape[1])).astype(np.float32) if family == "v3" else None
    ids, weights = route(steps.astype(np.float32), bias, config)
    their_ids, their_weights = theirs(steps.astype(np.float32), bias, config)
    order, their_order = np.argsort(ids, axis=1), np.argsort(their_ids, axis=1)
    np.testing.assert_array_equal(
        np.take_along_axis(ids, order, 1), np.take_along_axis(their_ids, their_order, 1)
    )
    np.testing.assert_allclose(
        np.take_along_axis(weights, order, 1), np.take_along_axis(their_weights, their_order, 1), rtol=1e-5
    )


def test_softmax_and_sigmoid_accept_any_finite_logit() -> None:
    extreme = np.array([[-3e38, 0, 3e38]], np.float32)
    with np.errstate(over="ignore"):  # the difference overflows to -inf, whose exponential is 0
        np.testing.assert_array_equal(softmax(extreme), [[0, 0, 1]])
    np.testing.assert_array_equal(sigmoid(extreme), [[0, 0.5, 1]])
