"""`FP8`: e4m3 with one float32 scale per block of rows and columns, as DeepSeek-V3 is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from araio.codecs.base import Codec, Part, largest_magnitude
from araio.codecs.plain import largest_code
from araio.tensors import BlockFP8, Float32Array, Weight

__all__ = ["E4M3_VALUES", "FP8"]

NAN_CODE = 0x7F  # e4m3 has no infinity


def _e4m3_values() -> Float32Array:
    """The 256 values of e4m3fn: sign, 4 bits of exponent (bias 7), 3 of mantissa; NaN is 0x7F and 0xFF."""
    code = np.arange(256, dtype=np.uint8)
    sign = np.where(code >> 7, -1.0, 1.0)
    exponent = (code >> 3 & 15).astype(np.int32)
    mantissa = (code & 7) / 8.0
    magnitude = np.where(exponent > 0, np.ldexp(1.0 + mantissa, exponent - 7), np.ldexp(mantissa, -6))
    return np.where(code & 0x7F == NAN_CODE, np.nan, sign * magnitude).astype(np.float32)


E4M3_VALUES: Float32Array = _e4m3_values()

E4M3_MAX = float(E4M3_VALUES[NAN_CODE - 1])


@dataclass(frozen=True)
class FP8(Codec[BlockFP8]):
    """e4m3 with a scale per block: its largest magnitude over 448, as published checkpoints have it.

    block  rows and columns that share one scale
    """

    name: ClassVar[str] = "fp8"
    block: tuple[int, int] = (128, 128)

    @property
    def row_multiple(self) -> int:
        return self.block[0]

    def parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        rows, columns = shape
        blocks = (-(-rows // self.block[0]), -(-columns // self.block[1]))
        return (
            Part("", "F8_E4M3", np.dtype(np.uint8), shape),
            Part("_scale_inv", "F32", np.dtype(np.float32), blocks),
        )

    def holds(self, weight: Weight) -> bool:
        return isinstance(weight, BlockFP8) and weight.block == self.block

    def encode(self, matrix: Float32Array) -> BlockFP8:
        largest_magnitude(matrix)
        rows, columns = matrix.shape
        tall, wide = self.block
        tops, lefts = np.arange(0, rows, tall), np.arange(0, columns, wide)
        largest = np.maximum.reduceat(np.maximum.reduceat(np.abs(matrix), tops, axis=0), lefts, axis=1)
        # Subnormal scales lose the precision that the division needs; such a block is zero for every use.
        is_zero = largest < np.finfo(np.float32).tiny * np.float32(E4M3_MAX)
        scale_inv = np.where(is_zero, np.float32(1), largest / np.float32(E4M3_MAX))
        scale = np.repeat(np.repeat(scale_inv, tall, axis=0)[:rows], wide, axis=1)[:, :columns]
        return BlockFP8(_nearest_e4m3(matrix / scale), scale_inv, self.block)

    def decode(self, weight: BlockFP8) -> Float32Array:
        rows, columns = weight.shape
        tall, wide = weight.block
        scale = np.repeat(weight.scale_inv, tall, axis=0)[:rows]
        return E4M3_VALUES[weight.data] * np.repeat(scale, wide, axis=1)[:, :columns]

    def arrays(self, weight: BlockFP8) -> tuple[npt.NDArray[Any], ...]:
        return weight.data, weight.scale_inv

    def assemble(self, arrays: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> BlockFP8:
        data, scale_inv = arrays
        return BlockFP8(data, scale_inv, self.block)

    def is_finite(self, weight: BlockFP8) -> bool:
        scales = weight.scale_inv
        return largest_code(weight.data) < NAN_CODE and bool((np.isfinite(scales) & (scales > 0)).all())


def _nearest_e4m3(values: Float32Array) -> npt.NDArray[np.uint8]:
    """Codes of numbers up to 448, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    sign = (bits >> np.uint32(24)) & np.uint32(0x80)
    magnitude = bits & np.uint32(0x7FFF_FFFF)
    # Normal numbers: three bits of mantissa are kept, and the exponent's bias goes from 127 to 7.
    rounding = np.uint32(0x7_FFFF) + (magnitude >> np.uint32(20) & np.uint32(1))
    normal = (magnitude + rounding >> np.uint32(20)) - np.uint32(120 << 3)
    # Below 2^-6 codes are multiples of 2^-9; the eighth is the smallest normal number.
    multiple = np.rint(np.abs(values) * np.float32(512))
    is_small = multiple <= 8
    code = np.where(is_small, np.where(is_small, multiple, 0).astype(np.uint32), normal)
    return (sign | code).astype(np.uint8)
