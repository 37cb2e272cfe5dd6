"""Stored weights as float32: the one place that knows what bfloat16 bits and e4m3 bytes are worth.

Every function gives a new array, except that float32 is passed through as it is. Nothing here is fast; a
backend that multiplies by stored bits directly should agree with it. Read `reference.py` next.
"""

from __future__ import annotations

import numpy as np

from araio.tensors import BFloat16, BlockFP8, Float32Array, Weight

__all__ = ["E4M3_VALUES", "rows_of", "widen"]


def _e4m3_values() -> Float32Array:
    """The 256 values of e4m3fn: sign, 4 bits of exponent (bias 7), 3 of mantissa; NaN is 0x7F and 0xFF."""
    code = np.arange(256, dtype=np.uint8)
    sign = np.where(code >> 7, -1.0, 1.0)
    exponent = (code >> 3 & 15).astype(np.int32)
    mantissa = (code & 7) / 8.0
    magnitude = np.where(exponent > 0, np.ldexp(1.0 + mantissa, exponent - 7), np.ldexp(mantissa, -6))
    return np.where(code & 0x7F == 0x7F, np.nan, sign * magnitude).astype(np.float32)


E4M3_VALUES: Float32Array = _e4m3_values()


def widen(weight: Weight) -> Float32Array:
    """The logical value of a stored tensor.

    weight   (...) float32 | BFloat16, or (rows, columns) BlockFP8
    returns  (...) float32
    """
    if isinstance(weight, BFloat16):
        return (weight.bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if isinstance(weight, BlockFP8):
        rows, columns = weight.shape
        tall, wide = weight.block
        scale = np.repeat(weight.scale_inv, tall, axis=0)[:rows]
        return E4M3_VALUES[weight.data] * np.repeat(scale, wide, axis=1)[:, :columns]
    return weight


def rows_of(weight: Weight, start: int, stop: int) -> Float32Array:
    """Rows `start:stop` of a matrix, widened; `start` must begin a block of a `BlockFP8`."""
    if isinstance(weight, BFloat16):
        return widen(BFloat16(weight.bits[start:stop]))
    if isinstance(weight, BlockFP8):
        tall = weight.block[0]
        assert start % tall == 0
        scale_inv = weight.scale_inv[start // tall : -(-stop // tall)]
        return widen(BlockFP8(weight.data[start:stop], scale_inv, weight.block))
    return weight[start:stop]
