"""bfloat16 and e4m3 to float32 and back, against PyTorch's own types."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from araio.codecs import codec
from araio.codecs.fp8 import E4M3_VALUES
from araio.errors import FormatError
from araio.kernels.widen import rows_at, rows_of, widen
from araio.tensors import BFloat16, BlockFP8

narrow_bfloat16, narrow_fp8 = codec("bf16").encode, codec("fp8").encode


def test_every_e4m3_code_has_the_value_that_torch_gives_it() -> None:
    expected = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(E4M3_VALUES, expected)


def test_every_finite_bfloat16_comes_back_unchanged() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = BFloat16(bits[(bits & 0x7F80) != 0x7F80])
    np.testing.assert_array_equal(narrow_bfloat16(widen(finite)).bits, finite.bits)


LARGEST_BFLOAT16 = float.fromhex("0x1.fep127")


@given(st.lists(st.floats(width=32, min_value=-LARGEST_BFLOAT16, max_value=LARGEST_BFLOAT16), min_size=1))
def test_bfloat16_rounds_as_torch_does(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(narrow_bfloat16(values).bits, expected)


def test_a_number_that_bfloat16_would_make_infinite_is_refused() -> None:
    with pytest.raises(
        FormatError, match=r"holds 3.402\d+e\+38, which bfloat16 rounds to infinity; choose f32"
    ):
        narrow_bfloat16(np.full((1, 1), np.finfo(np.float32).max))


def test_fp8_rounds_as_torch_does_with_a_scale_of_one() -> None:
    values = np.linspace(-448, 448, 1 << 12, dtype=np.float32)
    values[:2] = 448, 13.0  # the largest makes the scale 1; 13 lies between 12 and 14
    weight = codec("fp8", (1, len(values))).encode(values[None])
    assert weight.scale_inv == 1
    expected = torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    np.testing.assert_array_equal(weight.data[0], expected)


@given(st.lists(st.floats(width=32, min_value=-448, max_value=448), min_size=1))
def test_fp8_rounds_any_number_as_torch_does(numbers: list[float]) -> None:
    values = np.array([448, *numbers], np.float32)
    codes = codec("fp8", (1, len(values))).encode(values[None]).data[0]
    expected = torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    np.testing.assert_array_equal(codes, expected)


def test_fp8_rounds_ties_to_even_codes() -> None:
    values = E4M3_VALUES[:127].astype(np.float64)
    ties = np.concatenate([[448], (values[:-1] + values[1:]) / 2]).astype(np.float32)
    codes = codec("fp8", (1, len(ties))).encode(ties[None]).data[0]
    assert not (codes % 2).any()
    assert (np.abs(codes[1:] - np.arange(0.5, 126)) == 0.5).all()


@pytest.mark.parametrize("shape", [(1, 1), (128, 128), (130, 257), (300, 64)])
def test_fp8_is_off_by_at_most_half_a_step_of_its_block(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight = narrow_fp8(values)
    assert weight.scale_inv.shape == (-(-shape[0] // 128), -(-shape[1] // 128))
    # Three bits of mantissa: half a step is a sixteenth of a normal number.
    error = np.abs(widen(weight) - values)
    assert (error <= np.abs(values) / 16 + weight.scale_inv.max() * 2.0**-10).all()


@pytest.mark.parametrize("value", [0, 1e-45, 1e-38])
def test_a_block_without_a_normal_scale_is_zero(value: float) -> None:
    weight = narrow_fp8(np.full((3, 200), value, np.float32))
    assert (weight.scale_inv == 1).all()
    assert not widen(weight).any()


def test_scales_multiply_their_own_block() -> None:
    one = np.uint8(0x38)
    weight = BlockFP8(np.full((3, 5), one), np.array([[1, 2], [3, 4]], np.float32), block=(2, 3))
    expected = [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [3, 3, 3, 4, 4]]
    np.testing.assert_array_equal(widen(weight), np.array(expected, np.float32))
    np.testing.assert_array_equal(rows_of(weight, 2, 3), widen(weight)[2:3])
    np.testing.assert_array_equal(rows_at(weight, np.array([2, 0, 1])), widen(weight)[[2, 0, 1]])
