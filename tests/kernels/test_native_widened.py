"""Weights as stored against the same numbers as float32: bfloat16 gives the same bits, fp8 nearly the same.

A bfloat16 is widened exactly and then multiplied in the order of a float32. The sums of fp8 are scaled block
by block, and run over the columns in another order.
"""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from araio.codecs import codec, decode
from araio.kernels.ops import PAGE, FeedForward, Latents

from .layers import THREADS, assert_same_bits, hold, randn, random_ids, random_layer

pytestmark = pytest.mark.native


def widened(layer: FeedForward) -> FeedForward:
    return FeedForward(*(decode(weight) for weight in vars(layer).values()))


@settings(max_examples=40)
@given(
    st.sampled_from(THREADS),
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 200),
    st.integers(1, 200),
)
def test_bfloat16_gives_the_bits_of_float32(
    on_threads, threads: int, seed: int, T: int, D: int, F: int
) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    layers = {e: random_layer(rng, ("bf16",) * 3, D, F) for e in range(3)}
    narrow = {e: hold(ours, layer) for e, layer in layers.items()}
    wide = {e: hold(ours, widened(layer)) for e, layer in layers.items()}
    x, ids, weights = randn(rng, T, D), random_ids(rng, T, 3, 2), randn(rng, T, 2)
    assert_same_bits(ours.linear(x, narrow[0].gate_proj), ours.linear(x, wide[0].gate_proj))
    assert_same_bits(ours.swiglu(x, narrow[0]), ours.swiglu(x, wide[0]))
    assert_same_bits(ours.experts(x, ids, weights, narrow), ours.experts(x, ids, weights, wide))


@settings(max_examples=20)
@given(
    st.sampled_from(THREADS),
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(0, 150),
    st.integers(1, 90),
)
@pytest.mark.parametrize("form", ["mla_decode", "mla_prefill"])
def test_so_does_attention(
    on_threads, form: str, threads: int, seed: int, T: int, before: int, C: int
) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    H, N, R, V = 3, 18, 8, 21
    pages = randn(rng, 2, PAGE, C + R)
    latents = Latents.of_one(pages, np.arange(2), T + before, T)
    weight = codec("bf16").encode(randn(rng, H * (N + V), C))
    q_nope, q_pe = randn(rng, T, H, N), randn(rng, T, H, R)
    narrow, wide = (
        getattr(ours, form)(q_nope, q_pe, latents, ours.hold(held), 0.2) for held in (weight, decode(weight))
    )
    assert_same_bits(narrow, wide)


@settings(max_examples=20)
@given(st.sampled_from(THREADS), st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 300))
def test_fp8_is_float32_up_to_rounding(on_threads, threads: int, seed: int, T: int, D: int) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    weight, x = codec("fp8").encode(randn(rng, 40, D) / np.float32(D) ** 0.5), randn(rng, T, D)
    narrow, wide = (ours.linear(x, ours.hold(held)) for held in (weight, decode(weight)))
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=2e-6 * np.abs(wide).max())
