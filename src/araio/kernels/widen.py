"""Stored weights as float32, whole or by rows, for operations that do not multiply by stored bits.

What the bits are worth is for `codecs/` to say; here is how rows are picked. Every function gives a new
array, except that float32 is passed through as it is. Read `reference.py` next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from araio.codecs import decode
from araio.codecs.integers import decode_rows
from araio.tensors import TILE_ROWS, BFloat16, BlockFP8, Float32Array, Quantized, Weight

__all__ = ["row_multiple", "rows_at", "rows_of", "widen"]

widen = decode


def row_multiple(weight: Weight) -> int:
    """Rows that are stored together: where `rows_of` may start."""
    if isinstance(weight, Quantized):
        return TILE_ROWS
    return weight.block[0] if isinstance(weight, BlockFP8) else 1


def rows_of(weight: Weight, start: int, stop: int) -> Float32Array:
    """Rows `start:stop` of a matrix, widened; `start` is a multiple of `row_multiple`."""
    tall = row_multiple(weight)
    assert start % tall == 0
    stored = slice(start // tall, -(-stop // tall))
    if isinstance(weight, BFloat16):
        return decode(BFloat16(weight.bits[start:stop]))
    if isinstance(weight, BlockFP8):
        return decode(BlockFP8(weight.data[start:stop], weight.scale_inv[stored], weight.block))
    if isinstance(weight, Quantized):
        shape = stop - start, weight.shape[1]
        return decode(Quantized(weight.data[stored], weight.scale[stored], shape, weight.bits))
    return weight[start:stop]


def rows_at(weight: Weight, rows: npt.NDArray[np.integer]) -> Float32Array:
    """Single rows of a matrix, in any order, widened."""
    if isinstance(weight, BFloat16):
        return decode(BFloat16(weight.bits[rows]))
    if isinstance(weight, BlockFP8):
        columns = weight.shape[1]
        scale = np.repeat(weight.scale_inv[rows // weight.block[0]], weight.block[1], axis=1)[:, :columns]
        return decode(BlockFP8(weight.data[rows], scale, (1, 1)))
    if isinstance(weight, Quantized):
        return decode_rows(weight, rows)
    chosen: Float32Array = weight[rows]
    return chosen
