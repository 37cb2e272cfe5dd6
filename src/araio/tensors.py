"""Tensors as checkpoints store them: no arithmetic, only data and logical shape.

NumPy has neither bfloat16 nor float8, so both travel as their raw bits next to what they mean. A `Weight`
is what a linear layer may hold; `codecs/` knows what each kind is worth, `kernels/` how to multiply by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_COLUMNS", "TILE_ROWS", "BFloat16", "BlockFP8", "Float32Array", "Quantized", "Weight"]

# A `Quantized` matrix in the order that kernels read: a scale for each row of 32 columns, 16 rows a tile.
TILE_ROWS = 16
BLOCK_COLUMNS = 32

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


@dataclass(frozen=True)
class Quantized:
    """Integers in blocks of 32 columns, each row of a block with its own scale, in tiles of 16 rows.

    The logical value is `integer * scale`. With `tiles = ceil(O / 16)` and `blocks = ceil(I / 32)`, what lies
    beyond O and I is zero: integers and scales both. Inside one (tile, block), by bits:

    8  int8 [8, 16, 4]: element [j, r, c] belongs to row `16 * tile + r`, column `32 * block + 4 * j + c`; it
       lies in -127..127
    4  uint8 [4, 16, 4]: byte [j, r, c] has column `4 * j + c` of the block in its low half and column
       `16 + 4 * j + c` in its high half; each half is the integer plus 8, so the integer lies in -8..7

    One vector of 64 bytes is thus 16 rows by 4 columns, what an integer dot product of four terms takes.

    data   (tiles, blocks, 512 or 256) uint8
    scale  (tiles, blocks, 16) float16
    shape  (O, I)
    bits   8 or 4
    """

    data: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float16]
    shape: tuple[int, int]
    bits: int

    def __post_init__(self) -> None:
        rows, columns = self.shape
        tiles, blocks = -(-rows // TILE_ROWS), -(-columns // BLOCK_COLUMNS)
        assert self.bits in (4, 8)
        assert self.data.dtype == np.uint8
        assert self.data.shape == (tiles, blocks, TILE_ROWS * BLOCK_COLUMNS * self.bits // 8)
        assert self.scale.dtype == np.float16
        assert self.scale.shape == (tiles, blocks, TILE_ROWS)


Weight: TypeAlias = Float32Array | BFloat16 | BlockFP8 | Quantized
