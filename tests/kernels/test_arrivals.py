"""Experts in the order in which they arrive: the bits of `experts`, however they are divided into calls."""

from itertools import pairwise
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from araio.kernels import reference
from araio.kernels.native import CompiledOperations
from araio.kernels.ops import FeedForward
from araio.tensors import Float32Array

from .conftest import ISAS, compiled
from .layers import CODECS, THREADS, assert_same_bits, hold_all, randn, random_ids, random_layer

T, E, K, D, F = 5, 4, 2, 8, 12


def as_they_arrive(ops, x, ids, weights, arrivals: list[dict[int, FeedForward]]) -> Float32Array:
    """What `experts` gives, from as many calls as there are arrivals."""
    answers = np.full((*ids.shape, x.shape[1]), np.nan, np.float32)
    for arrived in arrivals:
        ops.expert_answers(x, ids, arrived, answers)
    return ops.combine_experts(answers, ids, weights)


@st.composite
def partitions(draw: st.DrawFn, experts: int) -> list[list[int]]:
    """Experts in any order, cut into runs."""
    order = draw(st.permutations(range(experts)))
    cuts = sorted(draw(st.sets(st.integers(1, experts))) | {0, experts})
    return [order[start:stop] for start, stop in pairwise(cuts)]


@pytest.mark.native
@settings(max_examples=12)
@given(st.data(), st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
@pytest.mark.parametrize("name", CODECS)
def test_any_order_of_arrival_gives_the_bits_of_experts(
    on_threads, name: str, data, seed: int, T: int, D: int, F: int
) -> None:
    rng = np.random.default_rng(seed)
    E = data.draw(st.integers(1, 9))
    K = data.draw(st.integers(1, E))
    layers = hold_all(on_threads(1), {e: random_layer(rng, (name,) * 3, D, F) for e in range(E)})
    x, ids, weights = randn(rng, T, D), random_ids(rng, T, E, K), randn(rng, T, K)
    expected = on_threads(1).experts(x, ids, weights, layers)
    arrivals = [{e: layers[e] for e in run} for run in data.draw(partitions(E))]
    ours = on_threads(data.draw(st.sampled_from(THREADS)))
    assert_same_bits(as_they_arrive(ours, x, ids, weights, arrivals), expected)


@pytest.mark.native
@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("tokens", [1, 150])
def test_wide_experts_one_at_a_time_give_the_bits_of_experts(
    on_threads, name: str, threads: int, tokens: int
) -> None:
    rng = np.random.default_rng(tokens)
    layers = hold_all(on_threads(1), {e: random_layer(rng, (name,) * 3, 330, 237) for e in range(5)})
    x, ids, weights = randn(rng, tokens, 330), random_ids(rng, tokens, 5, 3), randn(rng, tokens, 3)
    expected = on_threads(1).experts(x, ids, weights, layers)
    one_by_one = [{e: layers[e]} for e in (3, 0, 4, 1, 2)]
    assert_same_bits(as_they_arrive(on_threads(threads), x, ids, weights, one_by_one), expected)


@pytest.fixture(params=["reference", *(pytest.param(isa, marks=pytest.mark.native) for isa in ISAS)])
def ops(request: pytest.FixtureRequest):
    """A backend: the reference, or the compiled operations of one vector width."""
    return reference.OPS if request.param == "reference" else CompiledOperations(compiled, request.param)


@pytest.fixture
def step(ops):
    """x, ids, weights of a step, and the layers of its experts."""
    rng = np.random.default_rng(0)
    layers = hold_all(ops, {e: random_layer(rng, ("f32",) * 3, D, F) for e in range(E)})
    return randn(rng, T, D), random_ids(rng, T, E, K), randn(rng, T, K), layers


@pytest.mark.parametrize("tokens", [0, 1, T])
def test_both_backends_give_what_their_experts_give(ops, step, tokens: int) -> None:
    x, ids, weights = (array[:tokens] for array in step[:3])
    arrivals = [{3: step[3][3]}, {}, {e: step[3][e] for e in (2, 0, 1)}]
    y = as_they_arrive(ops, x, ids, weights, arrivals)
    assert_same_bits(y, ops.experts(x, ids, weights, step[3]))


def test_answers_of_other_experts_are_left_alone(ops, step) -> None:
    x, ids, _, layers = step
    answers = np.full((T, K, D), np.nan, np.float32)
    ops.expert_answers(x, ids, {1: layers[1]}, answers)
    np.testing.assert_array_equal(np.isnan(answers).all(axis=2), ids != 1)
    for t, k in np.argwhere(ids == 1):
        expected = ops.swiglu(x[t : t + 1], layers[1])[0]
        np.testing.assert_allclose(answers[t, k], expected, rtol=1e-5, atol=1e-6)


def test_experts_that_no_token_chose_are_not_looked_at(ops, step) -> None:
    x, ids, _, layers = step
    answers = np.zeros((T, K, D), np.float32)
    ops.expert_answers(x, ids, {0: layers[0], 77: None, -1: None}, answers)
    assert answers[ids == 0].all()
    assert not answers[ids != 0].any()


ANSWERS, IDS, WEIGHTS = (
    np.ones((2, 1, 8), np.float32),
    np.zeros((2, 1), np.int32),
    np.ones((2, 1), np.float32),
)
X = Y = np.ones((2, 8), np.float32)


@pytest.mark.native
@pytest.mark.parametrize(
    ("ids", "answers"),
    [
        (IDS[:1], ANSWERS),
        (IDS, ANSWERS[:1]),
        (IDS, ANSWERS[..., :7].copy()),
        (IDS, np.ones((2, 2, 8), np.float32)),
    ],
)
def test_sizes_that_do_not_fit_are_refused(ours, ids, answers) -> None:
    with pytest.raises(ValueError, match="must"):
        ours.compiled.expert_answers(X, ids, {}, answers)


@pytest.mark.native
def test_matrices_that_do_not_fit_are_refused(ours) -> None:
    square, wrong = (ours.hold(np.zeros(shape, np.float32)) for shape in ((8, 8), (8, 7)))
    layer = SimpleNamespace(gate_proj=square, up_proj=square, down_proj=wrong)
    with pytest.raises(ValueError, match="down_proj must be"):
        ours.compiled.expert_answers(X, IDS, {0: layer}, ANSWERS.copy())


@pytest.mark.native
@pytest.mark.parametrize(
    ("ids", "weights", "y"),
    [(IDS[:1], WEIGHTS, Y), (IDS, WEIGHTS[:1], Y), (IDS, WEIGHTS, Y[:1]), (IDS, WEIGHTS, Y[:, :7].copy())],
)
def test_sums_whose_sizes_do_not_fit_are_refused(ours, ids, weights, y) -> None:
    with pytest.raises(ValueError, match="must"):
        ours.compiled.combine_experts(ANSWERS, ids, weights, y)
