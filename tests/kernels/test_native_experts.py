"""Compiled feed-forward layers, dense and routed, against the reference."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from araio.kernels import reference
from araio.kernels.ops import FeedForward
from araio.tensors import Float32Array

from .layers import CODECS, THREADS, hold, hold_all, randn, random_ids, random_layer

pytestmark = pytest.mark.native

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def expected_of(function, names: tuple[str, ...], *arguments) -> tuple[Float32Array, dict[str, float]]:
    """The reference's answer, and how near the compiled one has to be.

    Where the hidden numbers are quantised, one that lies between two integers may fall to either side.
    """
    y = function(*arguments)
    steps = 0.02 * np.abs(y).max(initial=0) if {"q8", "q4"} & set(names) else 0
    return y, {"rtol": 1e-4, "atol": 1e-4 + steps}


@settings(max_examples=10)
@given(
    st.sampled_from(THREADS),
    st.integers(0, 2**32),
    st.integers(0, 40),
    st.integers(1, 90),
    st.integers(1, 90),
    st.data(),
)
@pytest.mark.parametrize("name", CODECS)
def test_experts_agree_on_any_shape(
    on_threads, name: str, threads: int, seed: int, T: int, D: int, F: int, data
) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    E = data.draw(st.integers(1, 9))
    K = data.draw(st.integers(1, E))
    layers = {e: random_layer(rng, (name,) * 3, D, F) for e in range(E)}
    x, ids, weights = randn(rng, T, D), random_ids(rng, T, E, K), randn(rng, T, K)
    expected, close = expected_of(reference.experts, (name,), x, ids, weights, layers)
    np.testing.assert_allclose(ours.experts(x, ids, weights, hold_all(ours, layers)), expected, **close)


@settings(max_examples=10)
@given(
    st.sampled_from(THREADS),
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 3, 130]),
    st.integers(1, 90),
    st.integers(1, 90),
)
@pytest.mark.parametrize("name", CODECS)
def test_swiglu_agrees_on_any_shape(
    on_threads, name: str, threads: int, seed: int, T: int, D: int, F: int
) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    layer, x = random_layer(rng, (name,) * 3, D, F), randn(rng, T, D)
    expected, close = expected_of(reference.swiglu, (name,), x, layer)
    np.testing.assert_allclose(ours.swiglu(x, hold(ours, layer)), expected, **close)


@pytest.mark.parametrize("T", [1, 32, 129, 300])
def test_experts_agree_when_all_tokens_choose_one(ours, T: int) -> None:
    rng = np.random.default_rng(T)
    layers = {e: random_layer(rng, ("bf16",) * 3, 48, 20) for e in range(3)}
    x, ids, weights = randn(rng, T, 48), np.full((T, 1), 2, np.int32), randn(rng, T, 1)
    y = ours.experts(x, ids, weights, hold_all(ours, layers))
    np.testing.assert_allclose(y, reference.experts(x, ids, weights, layers), **CLOSE)


def test_experts_and_their_matrices_may_be_stored_in_different_ways(ours) -> None:
    rng = np.random.default_rng(0)
    names = {0: ("q4", "f32", "fp8"), 3: ("fp8", "bf16", "q8"), 7: ("bf16", "q8", "f32")}
    layers = {e: random_layer(rng, three, 70, 50) for e, three in names.items()}
    x, ids, weights = randn(rng, 9, 70), np.array([[7, 0], [3, 7], [0, 3]] * 3, np.int32), randn(rng, 9, 2)
    expected, close = expected_of(reference.experts, ("q8",), x, ids, weights, layers)
    np.testing.assert_allclose(ours.experts(x, ids, weights, hold_all(ours, layers)), expected, **close)


class MadeOnDemand(Mapping[int, FeedForward]):
    """Experts that are held anew, from fresh copies, each time one is asked for; nobody else keeps them."""

    def __init__(self, ours, stored: dict[int, FeedForward]) -> None:
        self.ours, self.stored = ours, stored

    def __getitem__(self, expert: int) -> FeedForward:
        layer = FeedForward(*(np.copy(weight) for weight in vars(self.stored[expert]).values()))
        return hold(self.ours, layer)

    def __iter__(self) -> Iterator[int]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def test_experts_that_nobody_else_keeps_live_until_the_answer(ours) -> None:
    rng = np.random.default_rng(0)
    layers = {e: random_layer(rng, ("f32",) * 3, 300, 200) for e in range(8)}
    x, ids, weights = randn(rng, 4, 300), random_ids(rng, 4, 8, 4), randn(rng, 4, 4)
    y = ours.experts(x, ids, weights, MadeOnDemand(ours, layers))
    np.testing.assert_allclose(y, reference.experts(x, ids, weights, layers), **CLOSE)


@pytest.mark.parametrize("name", CODECS)
def test_an_answer_depends_neither_on_the_batch_nor_on_threads(on_threads, name: str) -> None:
    rng = np.random.default_rng(0)
    stored = {e: random_layer(rng, (name,) * 3, 170, 237) for e in range(6)}
    layers = hold_all(on_threads(1), stored)
    x, ids, weights = randn(rng, 150, 170), random_ids(rng, 150, 6, 3), randn(rng, 150, 3)
    whole, shared = on_threads(1).experts(x, ids, weights, layers), on_threads(1).swiglu(x, layers[0])
    np.testing.assert_array_equal(on_threads(3).experts(x, ids, weights, layers), whole)
    np.testing.assert_array_equal(on_threads(3).swiglu(x, layers[0]), shared)
    for threads, t in ((1, 0), (3, 1), (1, 77), (3, 149)):
        one, operations = slice(t, t + 1), on_threads(threads)
        np.testing.assert_array_equal(operations.experts(x[one], ids[one], weights[one], layers), whole[one])
        np.testing.assert_array_equal(operations.swiglu(x[one], layers[0]), shared[one])


def silu(ours, values: Float32Array) -> Float32Array:
    """Through a layer whose gate is the first number of x, whose other factor is the second."""
    gate, up, down = (np.array(m, np.float32) for m in ([[1, 0]], [[0, 1]], [[1], [0]]))
    x = np.stack([values, np.ones_like(values)], axis=1)
    return ours.swiglu(x, hold(ours, FeedForward(gate, up, down)))[:, 0]


def wide_silu(ours, values: Float32Array) -> Float32Array:
    """The same, all in one token: whole vectors of numbers."""
    n = len(values)
    one = np.zeros((n, n + 1), np.float32)
    one[:, n] = 1
    layer = FeedForward(np.eye(n, n + 1, dtype=np.float32), one, np.eye(n + 1, n, dtype=np.float32))
    return ours.swiglu(np.append(values, np.float32(1))[None], hold(ours, layer))[0, :n]


@pytest.mark.parametrize("apply", [silu, wide_silu])
def test_silu_keeps_its_precision_from_end_to_end(ours, apply) -> None:
    values = np.linspace(-87, 60, 1003, dtype=np.float32)
    exact = values.astype(float) / (1 + np.exp(-values.astype(float)))
    np.testing.assert_allclose(apply(ours, values), exact, rtol=5e-7, atol=0)


def test_silu_survives_what_exp_does_not(ours) -> None:
    values = np.array([-1e30, -200, -100, 0, 100, 1e30, np.nan], np.float32)
    y = silu(ours, values)
    np.testing.assert_allclose(y[:6], [0, 0, 0, 0, 100, 1e30], rtol=1e-6, atol=1e-38)
    assert np.isnan(y[6])


def square(ours) -> FeedForward:
    return FeedForward(*[ours.hold(np.zeros((8, 8), np.float32))] * 3)


X, Y = np.ones((2, 8), np.float32), np.ones((2, 8), np.float32)
IDS, WEIGHTS = np.zeros((2, 1), np.int32), np.ones((2, 1), np.float32)


@pytest.mark.parametrize(
    ("ids", "weights", "y"),
    [
        (IDS[:1], WEIGHTS[:1], Y),
        (IDS, WEIGHTS[:1], Y),
        (IDS, np.ones((2, 2), np.float32), Y),
        (IDS, WEIGHTS, Y[:1]),
    ],
)
def test_sizes_that_do_not_fit_are_refused(ours, ids, weights, y) -> None:
    with pytest.raises(ValueError, match="must"):
        ours.compiled.experts(X, ids, weights, {0: square(ours)}, y)


@pytest.mark.parametrize("place", ["gate_proj", "up_proj", "down_proj"])
@pytest.mark.parametrize("shape", [(7, 8), (8, 7)])
def test_matrices_that_do_not_fit_are_refused(ours, place: str, shape: tuple[int, int]) -> None:
    wrong = SimpleNamespace(**vars(square(ours)) | {place: ours.hold(np.zeros(shape, np.float32))})
    layers = {0: square(ours), 1: wrong}
    for call in (
        lambda: ours.compiled.swiglu(X, wrong, Y),
        lambda: ours.compiled.experts(X, np.array([[0], [1]], np.int32), WEIGHTS, layers, Y),
    ):
        with pytest.raises(ValueError, match=r"_proj must be"):
            call()


@pytest.mark.parametrize("bad", [-1, 5, 2**31 - 1])
def test_an_expert_that_is_not_there_is_an_error(ours, bad: int) -> None:
    with pytest.raises(KeyError):
        ours.compiled.experts(X, IDS + np.int32(bad), WEIGHTS, {0: square(ours)}, Y)


def test_a_layer_without_matrices_is_an_error(ours) -> None:
    with pytest.raises(AttributeError):
        ours.compiled.swiglu(X, SimpleNamespace(), Y)
    arrays = FeedForward(*[np.zeros((8, 8), np.float32)] * 3)
    with pytest.raises((TypeError, RuntimeError)):
        ours.compiled.swiglu(X, arrays, Y)
