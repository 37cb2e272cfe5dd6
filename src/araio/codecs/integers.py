"""`Q8` and `Q4`: integers in blocks of 32 columns, each row of a block with a float16 scale of its own.

Both encode a few tiles at a time, laid out so that the 32 columns of a block come first: then every step is a
long vector operation, and everything stays in the cache of a core. The order of the bytes is described once,
in `tensors.Quantized`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from araio.codecs.base import Codec, Part, largest_magnitude
from araio.errors import FormatError
from araio.tensors import BLOCK_COLUMNS, TILE_ROWS, Float32Array, Quantized, Weight

__all__ = ["Q4", "Q8", "decode_rows", "unpack_rows"]

# (tile, block) pairs encoded at a time: 32,768 numbers, so that four arrays of them stay in half a MiB.
PAIRS_AT_A_TIME = 64
FLOAT16_MAX = float(np.finfo(np.float16).max)

Int8Array = npt.NDArray[np.int8]
Float16Array = npt.NDArray[np.float16]
Bytes = npt.NDArray[np.uint8]


class _Integers(Codec[Quantized]):
    """What both share: tiles and blocks, parts, and the walk over them.

    bits     of one integer
    reach    a block's largest magnitude is stored as this many scales or more, and no scale exceeds float16
    """

    row_multiple = TILE_ROWS
    bits: ClassVar[int]
    reach: ClassVar[int]

    @abstractmethod
    def quantize(self, columns: Float32Array) -> tuple[Float16Array, Float32Array]:
        """Scales (n,) and integers (32, n), still as float32, of blocks (32, n)."""

    @abstractmethod
    def pack(self, integers: Int8Array) -> Bytes:
        """The bytes (tiles, blocks, B) of integers (32, tiles, blocks, 16)."""

    def parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        tiles, blocks = _grid(shape)
        block_bytes = TILE_ROWS * BLOCK_COLUMNS * self.bits // 8
        return (
            Part(".data", "U8", np.dtype(np.uint8), (tiles, blocks, block_bytes)),
            Part(".scale", "F16", np.dtype(np.float16), (tiles, blocks, TILE_ROWS)),
        )

    def holds(self, weight: Weight) -> bool:
        return isinstance(weight, Quantized) and weight.bits == self.bits

    def encode(self, matrix: Float32Array) -> Quantized:
        largest = largest_magnitude(matrix)
        if largest > self.reach * FLOAT16_MAX:
            raise FormatError(
                f"holds {largest:g}; {self.name} stores at most {self.reach * FLOAT16_MAX:,.0f}: choose "
                "bf16 or f32"
            )
        rows, columns = matrix.shape
        data, scale = (np.empty(part.shape, part.dtype) for part in self.parts(matrix.shape))
        tiles, blocks = _grid((rows, columns))
        wide = max(1, min(blocks, PAIRS_AT_A_TIME))
        tall = PAIRS_AT_A_TIME // wide
        for top in range(0, tiles, tall):
            for left in range(0, blocks, wide):
                at = slice(top, min(top + tall, tiles)), slice(left, min(left + wide, blocks))
                columns_first = _columns_first(matrix, *at)
                scales, integers = self.quantize(columns_first.reshape(BLOCK_COLUMNS, -1))
                scale[at] = scales.reshape(scale[at].shape)
                data[at] = self.pack(integers.astype(np.int8).reshape(columns_first.shape))
        return Quantized(data, scale, (rows, columns), self.bits)

    def decode(self, weight: Quantized) -> Float32Array:
        return decode_rows(weight, np.arange(weight.shape[0]))

    def arrays(self, weight: Quantized) -> tuple[npt.NDArray[Any], ...]:
        return weight.data, weight.scale

    def assemble(self, arrays: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> Quantized:
        data, scale = arrays
        rows, columns = shape
        return Quantized(data, scale, (rows, columns), self.bits)

    def is_finite(self, weight: Quantized) -> bool:
        return bool(np.isfinite(weight.scale).all())


class Q8(_Integers):
    """Integers in -127..127; the scale is the largest magnitude over 127, half of it the largest error."""

    name = "q8"
    bits = 8
    reach = 127

    def quantize(self, columns: Float32Array) -> tuple[Float16Array, Float32Array]:
        largest = np.maximum(columns.max(0), -columns.min(0))
        wanted = largest / np.float32(127)
        scale = wanted.astype(np.float16)
        # Rounded up: below what is wanted, the largest numbers would have to be cut off.
        scale = np.where(scale < wanted, np.nextafter(scale, np.float16(FLOAT16_MAX)), scale)
        return scale, np.rint(columns / _divisor(scale))

    def pack(self, integers: Int8Array) -> Bytes:
        return _by_four_columns(integers.view(np.uint8))


class Q4(_Integers):
    """Integers in -8..7, with the scale of least squared error among a few.

    The number of largest magnitude, m, is put at one of `TARGETS`, on the side where the integers reach
    farther. The integers that follow have a best scale of their own, `sum x q / sum q^2`, and of all such
    scales the one with the smallest error `sum x^2 - (sum x q)^2 / sum q^2` is taken. On pocket's matrices
    the root of the mean squared error is 5.7 % below that of the scale m / -8, llama.cpp's rule for Q4_0;
    forty targets reach 5.9 %.
    """

    name = "q4"
    bits = 4
    reach = 6
    # -8 comes first and wins where the others are no better, so that exact multiples of a scale stay exact.
    TARGETS = tuple(np.array([-8, -8.7, -8.35, -7.65, -7.3, -6.95, -6.6, -6.25], np.float32))

    def quantize(self, columns: Float32Array) -> tuple[Float16Array, Float32Array]:
        scale = np.clip(self.best_scale(columns), -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
        integers = columns / _divisor(scale)
        return scale, np.clip(np.rint(integers, out=integers), -8, 7, out=integers)

    def best_scale(self, columns: Float32Array) -> Float32Array:
        """The scales (n,) of blocks (32, n)."""
        high, low = columns.max(0), columns.min(0)
        extreme: Float32Array = np.where(high > -low, high, low)
        integers = np.empty_like(columns)
        scale: Float32Array = np.zeros_like(extreme)
        gain = np.zeros_like(extreme)
        for target in self.TARGETS:
            np.divide(columns, _divisor(extreme / target), out=integers)
            np.clip(np.rint(integers, out=integers), -8, 7, out=integers)
            product = np.einsum("cn,cn->n", columns, integers)
            fitted = product / _divisor(np.einsum("cn,cn->n", integers, integers))
            # By more than float32 rounds off.
            is_better = fitted * product > gain * np.float32(1 + 1e-6)
            scale[is_better] = fitted[is_better]
            gain[is_better] = (fitted * product)[is_better]
        return scale

    def pack(self, integers: Int8Array) -> Bytes:
        codes = (integers + np.int8(8)).view(np.uint8)
        half = BLOCK_COLUMNS // 2
        return _by_four_columns(codes[:half] | codes[half:] << np.uint8(4))


def unpack_rows(weight: Quantized, rows: npt.NDArray[np.integer]) -> tuple[Int8Array, Float32Array]:
    """The integers (n, blocks, 32) and scales (n, blocks) of n rows, in any order."""
    tile, row = rows // TILE_ROWS, rows % TILE_ROWS
    grid = weight.data.shape[:2]
    by_row = weight.data.reshape(*grid, weight.bits, TILE_ROWS, 4)
    packed = by_row[tile, :, :, row].reshape(len(rows), grid[1], 4 * weight.bits)
    scale = weight.scale[tile, :, row].astype(np.float32)
    if weight.bits == 8:
        return packed.view(np.int8), scale
    codes = np.concatenate([packed & np.uint8(15), packed >> np.uint8(4)], axis=2)
    return codes.view(np.int8) - np.int8(8), scale


def decode_rows(weight: Quantized, rows: npt.NDArray[np.integer]) -> Float32Array:
    """What n rows (n, I) are worth, in any order."""
    integers, scale = unpack_rows(weight, rows)
    padded_columns = scale.shape[1] * BLOCK_COLUMNS
    values: Float32Array = (integers * scale[..., None]).reshape(len(rows), padded_columns)
    return values[:, : weight.shape[1]]


def _grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Tiles and blocks of a matrix."""
    rows, columns = shape
    return -(-rows // TILE_ROWS), -(-columns // BLOCK_COLUMNS)


def _columns_first(matrix: Float32Array, tiles: slice, blocks: slice) -> Float32Array:
    """A part of a matrix as (32, tiles, blocks, 16), zero beyond its edges."""
    piece = matrix[
        tiles.start * TILE_ROWS : tiles.stop * TILE_ROWS,
        blocks.start * BLOCK_COLUMNS : blocks.stop * BLOCK_COLUMNS,
    ]
    tall, wide = tiles.stop - tiles.start, blocks.stop - blocks.start
    missing = tall * TILE_ROWS - piece.shape[0], wide * BLOCK_COLUMNS - piece.shape[1]
    if any(missing):
        piece = np.pad(piece, [(0, missing[0]), (0, missing[1])])
    split = piece.reshape(tall, TILE_ROWS, wide, BLOCK_COLUMNS)
    return np.ascontiguousarray(split.transpose(3, 0, 2, 1))


def _by_four_columns(codes: Bytes) -> Bytes:
    """Bytes (columns, tiles, blocks, 16) as (tiles, blocks, columns * 16): [columns / 4, 16, 4] inside."""
    columns, tiles, blocks, _ = codes.shape
    by_four = codes.reshape(columns // 4, 4, tiles, blocks, TILE_ROWS).transpose(2, 3, 0, 4, 1)
    return by_four.reshape(tiles, blocks, columns * TILE_ROWS)


def _divisor(values: Float32Array | Float16Array) -> Float32Array:
    """float32 with infinity for zero, so that a quotient by zero is zero."""
    return np.where(values == 0, np.float32(np.inf), values.astype(np.float32))
