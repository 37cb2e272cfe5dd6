"""`F32` and `BF16`: numbers stored one by one, exactly or rounded to bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.codecs.base import Codec, Part, largest_magnitude
from araio.errors import FormatError
from araio.tensors import BFloat16, Float32Array, Weight

__all__ = ["BF16", "F32", "largest_code"]

INFINITE_BITS = 0x7F80  # exponent all ones


class F32(Codec[Float32Array]):
    """float32, as it is."""

    name = "f32"
    row_multiple = 1

    def parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        return (Part("", "F32", np.dtype(np.float32), shape),)

    def holds(self, weight: Weight) -> bool:
        return isinstance(weight, np.ndarray)

    def encode(self, matrix: Float32Array) -> Float32Array:
        largest_magnitude(matrix)
        return matrix

    def decode(self, weight: Float32Array) -> Float32Array:
        return weight

    def arrays(self, weight: Float32Array) -> tuple[npt.NDArray[Any], ...]:
        return (weight,)

    def assemble(self, arrays: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> Float32Array:
        return arrays[0]

    def is_finite(self, weight: Float32Array) -> bool:
        # By extremes alone: they are quick, need no array of their own, and hand NaN through.
        return bool(np.isfinite(weight.min(initial=0)) and np.isfinite(weight.max(initial=0)))


class BF16(Codec[BFloat16]):
    """bfloat16, rounded to the nearest, ties to even."""

    name = "bf16"
    row_multiple = 1

    def parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        return (Part("", "BF16", np.dtype(np.uint16), shape),)

    def holds(self, weight: Weight) -> bool:
        return isinstance(weight, BFloat16)

    def encode(self, matrix: Float32Array) -> BFloat16:
        largest = largest_magnitude(matrix)
        bits = np.ascontiguousarray(matrix).view(np.uint32)
        rounding = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
        weight = BFloat16((bits + rounding >> np.uint32(16)).astype(np.uint16))
        if not self.is_finite(weight):
            raise FormatError(f"holds {largest:g}, which bfloat16 rounds to infinity; choose f32")
        return weight

    def decode(self, weight: BFloat16) -> Float32Array:
        return (weight.bits.astype(np.uint32) << np.uint32(16)).view(np.float32)

    def arrays(self, weight: BFloat16) -> tuple[npt.NDArray[Any], ...]:
        return (weight.bits,)

    def assemble(self, arrays: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> BFloat16:
        return BFloat16(arrays[0])

    def is_finite(self, weight: BFloat16) -> bool:
        return largest_code(weight.bits) < INFINITE_BITS


def largest_code(bits: npt.NDArray[np.uint16] | npt.NDArray[np.uint8]) -> int:
    """The largest code when its sign is left out: signed, the codes with a sign bit are below the others."""
    sign = 1 << (8 * bits.itemsize - 1)
    positive = bits.view(f"i{bits.itemsize}").max(initial=0)
    return max(int(positive), int(bits.max(initial=0)) - sign)
