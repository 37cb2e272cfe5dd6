"""q8 and q4: the order of the bytes by an independent slow reading of it, and how far numbers move."""

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from araio.codecs import codec
from araio.codecs.integers import Q4, unpack_rows
from araio.errors import FormatError
from araio.kernels.widen import rows_at, rows_of, widen
from araio.tensors import Float32Array, Quantized

SHAPES = [(1, 1), (16, 32), (17, 33), (40, 100), (5, 32 * 70), (16 * 9, 40)]
LOWEST = {8: -127, 4: -8}


def randn(*shape: int) -> Float32Array:
    return np.random.default_rng([*shape]).standard_normal(shape).astype(np.float32)


def integers_by_index(weight: Quantized) -> npt.NDArray[np.int64]:
    """Every integer of the padded matrix, one index at a time, as `tensors.Quantized` describes them."""
    tiles, blocks = weight.data.shape[:2]
    integers = np.zeros((tiles * 16, blocks * 32), np.int64)
    for row, column in np.ndindex(*integers.shape):
        inside = weight.data[row // 16, column // 32]
        within = column % 32
        if weight.bits == 8:
            j, c = divmod(within, 4)
            code = int(inside[j * 64 + row % 16 * 4 + c])
            integers[row, column] = code - 256 if code > 127 else code
        else:
            j, c = divmod(within % 16, 4)
            byte = int(inside[j * 64 + row % 16 * 4 + c])
            integers[row, column] = (byte >> 4 if within >= 16 else byte & 15) - 8
    return integers


@pytest.mark.parametrize("name", ["q8", "q4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_lie_where_the_layout_says(name: str, shape: tuple[int, int]) -> None:
    weight: Quantized = codec(name).encode(randn(*shape))
    integers = integers_by_index(weight)
    rows, columns = shape
    assert not integers[rows:].any()
    assert not integers[:, columns:].any()
    assert integers.min() >= LOWEST[weight.bits]
    scale = weight.scale.transpose(0, 2, 1).reshape(len(integers), -1)
    assert not scale[rows:].any()
    expected = integers * np.repeat(scale.astype(np.float32), 32, axis=1)
    np.testing.assert_array_equal(widen(weight), expected[:rows, :columns].astype(np.float32))


@pytest.mark.parametrize("name", ["q8", "q4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_those_of_the_whole(name: str, shape: tuple[int, int]) -> None:
    matrix = randn(*shape)
    weight, whole = codec(name).encode(matrix), widen(codec(name).encode(matrix))
    rows = np.random.default_rng(0).integers(shape[0], size=7)
    np.testing.assert_array_equal(rows_at(weight, rows), whole[rows])
    for start in range(0, shape[0], 16):
        stop = min(start + 16, shape[0])
        np.testing.assert_array_equal(rows_of(weight, start, stop), whole[start:stop])
        np.testing.assert_array_equal(widen(codec(name).encode(matrix[start:stop])), whole[start:stop])


finite = st.floats(width=32, min_value=-3e5, max_value=3e5)


@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=finite))
def test_q8_is_off_by_at_most_half_a_step(matrix: Float32Array) -> None:
    weight: Quantized = codec("q8").encode(matrix)
    _, scale = unpack_rows(weight, np.arange(len(matrix)))
    step = np.repeat(scale, 32, axis=1)[:, : matrix.shape[1]]
    error = np.abs(widen(weight).astype(float) - matrix)
    # Subnormal numbers of which a 127th part is nothing are nothing themselves.
    assert (error <= step * (0.5 + 1e-5) + 1e-42).all()
    # Nor is a step wider than it has to be: the float16 above the largest magnitude over 127.
    largest = np.abs(np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % 32)])).reshape(*scale.shape, 32).max(2)
    assert (scale <= largest / 127 * (1 + 2.0**-10) + 2.0**-24).all()


@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=finite))
def test_q4_never_enlarges_an_error_beyond_the_number_itself(matrix: Float32Array) -> None:
    error = np.abs(widen(codec("q4").encode(matrix)).astype(float) - matrix)
    largest = np.abs(np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % 32)])).reshape(len(matrix), -1, 32).max(2)
    assert (error <= np.repeat(largest, 32, axis=1)[:, : matrix.shape[1]] / 4 + 2.0**-24).all()


@given(arrays(np.int8, (2, 64), elements=st.integers(-8, 7)), st.integers(-10, 10))
def test_q4_gives_back_what_it_stored(integers: npt.NDArray[np.int8], exponent: int) -> None:
    integers[:, ::32] = -8  # the scale is then known: each block reaches its end
    matrix = integers * np.float32(2.0**exponent)
    np.testing.assert_array_equal(widen(codec("q4").encode(matrix)), matrix)


@given(arrays(np.int8, (2, 64), elements=st.integers(-127, 127)), st.integers(-10, 10))
def test_q8_gives_back_what_it_stored(integers: npt.NDArray[np.int8], exponent: int) -> None:
    integers[:, ::32] = -127
    matrix = integers * np.float32(2.0**exponent)
    np.testing.assert_array_equal(widen(codec("q8").encode(matrix)), matrix)


def q4_0(matrix: Float32Array) -> Float32Array:
    """llama.cpp's Q4_0: the scale puts the number of largest magnitude at -8."""
    blocks = matrix.reshape(-1, 32)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    scale = extreme / np.float32(-8)
    integers = np.minimum(15, np.floor(blocks / scale + np.float32(8.5))) - 8
    return (integers * scale.astype(np.float16)).astype(np.float32).reshape(matrix.shape)


def test_q4_is_closer_than_the_rule_it_starts_from() -> None:
    matrix = randn(64, 1024)
    ours = np.square(widen(codec("q4").encode(matrix)) - matrix).mean()
    assert ours < 0.9 * np.square(q4_0(matrix) - matrix).mean()


def test_q4_of_a_block_is_near_the_best_that_any_scale_gives() -> None:
    columns = randn(32, 50)
    found = Q4().best_scale(columns)

    def errors(scale: Float32Array) -> Float32Array:
        return np.square(np.clip(np.rint(columns / scale), -8, 7) * scale - columns).sum(0)

    extreme = np.abs(columns).max(0)
    tried = [errors(sign * extreme / np.float32(t)) for t in np.linspace(4, 12, 400) for sign in (1, -1)]
    best = np.minimum.reduce(tried)
    assert (errors(found) <= 1.25 * best).all()
    assert errors(found).sum() <= 1.03 * best.sum()


@pytest.mark.parametrize("name", ["f32", "bf16", "fp8", "q8", "q4"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(name: str, value: float) -> None:
    matrix = randn(20, 40)
    matrix[17, 33] = value
    with pytest.raises(FormatError, match="holds NaN or infinity"):
        codec(name).encode(matrix)


@pytest.mark.parametrize(("name", "most"), [("q8", 127 * 65504), ("q4", 6 * 65504)])
def test_numbers_beyond_the_scales_are_refused(name: str, most: float) -> None:
    matrix = np.full((2, 2), most, np.float32)
    np.testing.assert_allclose(widen(codec(name).encode(matrix)), matrix, rtol=0.1)
    with pytest.raises(FormatError, match=rf"{name} stores at most {most:,}: choose bf16 or f32"):
        codec(name).encode(matrix * np.float32(1.01))
