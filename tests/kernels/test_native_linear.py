"""Compiled products, look-ups and norms against the reference."""

import gc

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from araio.codecs import codec
from araio.kernels import reference
from araio.tensors import Float32Array, Weight

pytestmark = pytest.mark.native

THREADS = (1, 2, 3)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

# The blocks of published checkpoints, smaller ones, and such as the kernels have no product for.
FP8_BLOCKS = {"fp8": (128, 128), "fp8-16x64": (16, 64), "fp8-24x40": (24, 40)}
CODECS = ("f32", "bf16", *FP8_BLOCKS, "q8", "q4")


def randn(rng: np.random.Generator, *shape: int) -> Float32Array:
    return rng.standard_normal(shape).astype(np.float32)


def random_weight(rng: np.random.Generator, name: str, rows: int, columns: int) -> Weight:
    matrix = randn(rng, rows, columns) / np.float32(columns) ** 0.5
    return codec(name.split("-")[0], FP8_BLOCKS.get(name, (128, 128))).encode(matrix)


@settings(max_examples=15)
@given(
    st.sampled_from(THREADS),
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 2, 5, 13, 130]),
    st.integers(1, 100),
    st.integers(1, 300),
)
@pytest.mark.parametrize("name", CODECS)
def test_linear_agrees_on_any_shape(
    on_threads, name: str, threads: int, seed: int, T: int, rows: int, columns: int
) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    weight, x = random_weight(rng, name, rows, columns), randn(rng, T, columns)
    np.testing.assert_allclose(ours.linear(x, ours.hold(weight)), reference.linear(x, weight), **CLOSE)


@pytest.mark.parametrize("name", CODECS)
def test_linear_agrees_where_threads_share_the_rows(ours, name: str) -> None:
    rng = np.random.default_rng(0)
    weight, x = random_weight(rng, name, 1000, 500), randn(rng, 3, 500)
    np.testing.assert_allclose(ours.linear(x, ours.hold(weight)), reference.linear(x, weight), **CLOSE)


@pytest.mark.parametrize("name", CODECS)
def test_an_answer_depends_neither_on_the_batch_nor_on_threads(on_threads, name: str) -> None:
    rng = np.random.default_rng(0)
    weight, x = random_weight(rng, name, 700, 330), randn(rng, 150, 330)
    held = on_threads(1).hold(weight)
    whole = on_threads(1).linear(x, held)
    for threads in (2, 3):
        np.testing.assert_array_equal(on_threads(threads).linear(x, held), whole)
    for t in (0, 1, 77, 149):
        np.testing.assert_array_equal(on_threads(1).linear(x[t : t + 1], held)[0], whole[t])
    np.testing.assert_array_equal(on_threads(2).linear(x[:7], held), whole[:7])


@settings(max_examples=15)
@given(st.sampled_from(THREADS), st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 200))
@pytest.mark.parametrize("name", CODECS)
def test_embed_gives_the_rows_exactly(
    on_threads, name: str, threads: int, seed: int, rows: int, columns: int
) -> None:
    rng, ours = np.random.default_rng(seed), on_threads(threads)
    weight, ids = random_weight(rng, name, rows, columns), rng.integers(0, rows, 9)
    np.testing.assert_array_equal(ours.embed(ids, ours.hold(weight)), reference.embed(ids, weight))


def test_embed_gives_nothing_for_no_id(ours) -> None:
    assert ours.embed(np.zeros(0, np.int32), ours.hold(np.ones((3, 5), np.float32))).shape == (0, 5)


@settings(max_examples=15)
@given(st.sampled_from(THREADS), st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 200))
def test_rms_norm_agrees_on_any_shape(on_threads, threads: int, seed: int, T: int, D: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = randn(rng, T, D), randn(rng, D)
    np.testing.assert_allclose(
        on_threads(threads).rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6), **CLOSE
    )


@pytest.mark.parametrize("name", ["q8", "q4"])
def test_activations_of_any_size_are_multiplied(ours, name: str) -> None:
    weight = random_weight(np.random.default_rng(0), name, 20, 33)
    x = np.zeros((6, 33), np.float32)
    x[1, :2] = 0, 1e-45
    x[2, :2] = 2e-43, -1e-43
    x[3, :2] = 3e38, -1e38
    x[4, 32] = np.inf
    x[5, 3] = np.nan
    y = ours.linear(x, ours.hold(weight))
    np.testing.assert_allclose(y[:4], reference.linear(x[:4], weight), rtol=1e-5, atol=0)
    assert np.isnan(y[5]).all()
    assert not np.isfinite(y[4]).any()


@pytest.mark.parametrize("name", ["q8", "q4"])
def test_activations_whose_scale_is_rounded_stay_within_their_integers(ours, name: str) -> None:
    """A subnormal scale can be so small that a quotient exceeds 127, and even what a byte holds."""
    reach = {"q8": 127, "q4": 6}[name] * 60_000  # scales near the top of float16, for an answer above 0
    weight = codec(name).encode(randn(np.random.default_rng(0), 20, 33).clip(-1, 1) * np.float32(reach))
    x = np.zeros((4, 33), np.float32)
    x[0, :2] = 2e-43, -1e-43
    x[1, 1:4] = -2.6e-43, 1e-45, 2.5e-43  # the scale is the smallest number, 1.4e-45
    x[2] = 2.6e-43
    x[3] = -2.6e-43
    expected = reference.linear(x, weight)
    assert (np.abs(expected) > 1e-38).any(1).all()
    np.testing.assert_allclose(ours.linear(x, ours.hold(weight)), expected, rtol=1e-4, atol=1e-41)


@pytest.mark.parametrize("name", CODECS)
def test_a_number_that_is_not_one_stays_in_its_row(ours, name: str) -> None:
    rng = np.random.default_rng(0)
    weight, x = random_weight(rng, name, 40, 100), randn(rng, 9, 100)
    held = ours.hold(weight)
    clean = ours.linear(x, held)
    x[4, 50] = np.nan
    y = ours.linear(x, held)
    assert np.isnan(y[4]).all()
    np.testing.assert_array_equal(np.delete(y, 4, 0), np.delete(clean, 4, 0))


def test_arrays_that_are_not_contiguous_are_read_as_they_mean(ours) -> None:
    rng = np.random.default_rng(0)
    x, weight = randn(rng, 5, 40)[:, ::2], randn(rng, 60, 20)[::2]
    np.testing.assert_allclose(
        ours.rms_norm(x, weight[0], 1e-6), reference.rms_norm(x, weight[0], 1e-6), **CLOSE
    )
    np.testing.assert_allclose(ours.linear(x, ours.hold(weight)), x @ weight.T, **CLOSE)


@pytest.mark.parametrize("name", CODECS)
def test_a_held_weight_lives_as_long_as_it_is_needed_and_may_be_read_only(ours, name: str) -> None:
    weight = random_weight(np.random.default_rng(0), name, 50, 100)
    arrays = codec(name.split("-")[0]).arrays(weight)
    for array in arrays:
        array.flags.writeable = False  # as a memory-mapped file is
    x = np.ones((2, 100), np.float32)
    expected = reference.linear(x, weight)
    held = ours.hold(weight)
    del weight, arrays
    gc.collect()
    np.testing.assert_allclose(ours.linear(x, held), expected, **CLOSE)
    assert held.shape == (50, 100)


X, Y = np.ones((2, 8), np.float32), np.ones((2, 8), np.float32)


@pytest.mark.parametrize(
    ("x", "shape", "y"),
    [(X, (8, 7), Y), (X, (7, 8), Y), (X[:1], (8, 8), Y), (X, (8, 8), Y[:1])],
)
def test_sizes_that_do_not_fit_are_refused_before_any_memory_is_touched(ours, x, shape, y) -> None:
    with pytest.raises(ValueError, match="must"):
        ours.compiled.linear(x, ours.hold(np.ones(shape, np.float32)), y)


@pytest.mark.parametrize(("weight", "y"), [(np.ones(7, np.float32), Y), (np.ones(8, np.float32), Y[:1])])
def test_a_norm_that_does_not_fit_is_refused(ours, weight, y) -> None:
    with pytest.raises(ValueError, match="must"):
        ours.compiled.rms_norm(X, weight, 1e-6, y)


@pytest.mark.parametrize("bad", [-1, 8, 2**40])
def test_ids_outside_the_vocabulary_are_refused(ours, bad: int) -> None:
    y = np.zeros((2, 8), np.float32)
    with pytest.raises(ValueError, match="ids must be rows"):
        ours.compiled.embed(np.array([0, bad]), ours.hold(np.ones((8, 8), np.float32)), y)
    assert not y.any()


HALF = np.zeros((2, 3, 16), np.uint16)


@pytest.mark.parametrize(
    ("hold", "arguments"),
    [
        ("hold_tiles", (5, np.zeros((2, 3, 320), np.uint8), HALF, 32, 96)),
        ("hold_tiles", (8, np.zeros((2, 3, 256), np.uint8), HALF, 32, 96)),
        ("hold_tiles", (4, np.zeros((2, 3, 256), np.uint8), HALF, 33, 96)),
        ("hold_tiles", (4, np.zeros((2, 3, 256), np.uint8), HALF, 32, 97)),
        ("hold_tiles", (4, np.zeros((2, 3, 256), np.uint8), HALF, 0, 96)),
        ("hold_tiles", (4, np.zeros((2, 3, 256), np.uint8), HALF[:1], 32, 96)),
        ("hold_f32", (np.zeros((4, 0), np.float32),)),
        ("hold_f32", (np.zeros((0, 4), np.float32),)),
        ("hold_bf16", (np.zeros((4, 0), np.uint16),)),
        ("hold_bf16", (np.zeros((0, 4), np.uint16),)),
        ("hold_fp8", (np.zeros((4, 0), np.uint8), np.ones((1, 0), np.float32), 128, 128)),
        ("hold_fp8", (np.zeros((0, 4), np.uint8), np.ones((0, 1), np.float32), 128, 128)),
        ("hold_fp8", (np.zeros((8, 200), np.uint8), np.ones((1, 1), np.float32), 128, 128)),
        ("hold_fp8", (np.zeros((8, 128), np.uint8), np.ones((1, 1), np.float32), 0, 128)),
        ("hold_fp8", (np.zeros((8, 40), np.uint8), np.ones((1, 1), np.float32), 128, 40)),
    ],
)
def test_stored_arrays_that_contradict_each_other_or_are_empty_are_refused(
    extension, hold: str, arguments
) -> None:
    with pytest.raises(ValueError, match="must"):
        getattr(extension, hold)(*arguments)
