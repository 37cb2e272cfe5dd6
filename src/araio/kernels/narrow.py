"""float32 to the stored formats, the way back from `widen.py`: rounded to the nearest, ties to even."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from araio.kernels.widen import E4M3_VALUES
from araio.tensors import BFloat16, BlockFP8, Float32Array

__all__ = ["narrow_bfloat16", "narrow_fp8"]

# Codes 0 to 126 are the positive values in ascending order; 127 is NaN.
_POSITIVE = E4M3_VALUES[:127].astype(np.float64)
_MIDPOINTS = (_POSITIVE[:-1] + _POSITIVE[1:]) / 2
E4M3_MAX = float(_POSITIVE[-1])


def narrow_bfloat16(values: Float32Array) -> BFloat16:
    """Round finite float32 values (...) to bfloat16."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounding = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return BFloat16((bits + rounding >> np.uint32(16)).astype(np.uint16))


def narrow_fp8(values: Float32Array, block: tuple[int, int] = (128, 128)) -> BlockFP8:
    """Quantise a finite matrix (rows, columns) with one scale per block, its largest magnitude over 448.

    That is how the published checkpoints are made; an all-zero block gets the scale 1.
    """
    rows, columns = values.shape
    tall, wide = block
    tops, lefts = np.arange(0, rows, tall), np.arange(0, columns, wide)
    largest = np.maximum.reduceat(np.maximum.reduceat(np.abs(values), tops, axis=0), lefts, axis=1)
    scale_inv = np.where(largest > 0, largest / np.float32(E4M3_MAX), np.float32(1))
    scale = np.repeat(np.repeat(scale_inv, tall, axis=0)[:rows], wide, axis=1)[:, :columns]
    return BlockFP8(_nearest_e4m3(values / scale), scale_inv, block)


def _nearest_e4m3(values: Float32Array) -> npt.NDArray[np.uint8]:
    magnitude = np.abs(values).astype(np.float64)
    code = np.searchsorted(_MIDPOINTS, magnitude)
    # On a midpoint the search gives the lower code; the even one is wanted.
    is_tie = _MIDPOINTS[np.minimum(code, len(_MIDPOINTS) - 1)] == magnitude
    code = code + (is_tie & (code % 2 == 1))
    signed: npt.NDArray[np.int64] = code + 128 * np.signbit(values)
    return signed.astype(np.uint8)
