"""Tensors as checkpoints store them: no arithmetic, only data and logical shape.

NumPy has neither bfloat16 nor float8, so both travel as their raw bits next to what they mean. A `Weight`
is what a linear layer may hold; `kernels/` knows how to multiply by each kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["BFloat16", "BlockFP8", "Float32Array", "Weight"]

Float32Array: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BFloat16:
    """A bfloat16 tensor as its upper 16 bits.

    bits  (...) uint16
    """

    bits: npt.NDArray[np.uint16]

    def __post_init__(self) -> None:
        assert self.bits.dtype == np.uint16

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape


@dataclass(frozen=True)
class BlockFP8:
    """An e4m3 matrix with one float32 scale per block of rows and columns, as DeepSeek-V3 ships it.

    The logical value is `e4m3(data[r, c]) * scale_inv[r // block[0], c // block[1]]`: the published name
    says "inverse", but it is what one multiplies by (DeepSeek-V3 `README_WEIGHTS.md`). Blocks at the right
    and bottom edge may be partial.

    data       (rows, columns) uint8
    scale_inv  (ceil(rows / block[0]), ceil(columns / block[1])) float32
    """

    data: npt.NDArray[np.uint8]
    scale_inv: Float32Array
    block: tuple[int, int] = (128, 128)

    def __post_init__(self) -> None:
        assert self.data.dtype == np.uint8
        assert self.data.ndim == 2
        rows, columns = self.data.shape
        assert self.scale_inv.shape == (-(-rows // self.block[0]), -(-columns // self.block[1]))

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.data.shape
        return rows, columns


Weight: TypeAlias = Float32Array | BFloat16 | BlockFP8
