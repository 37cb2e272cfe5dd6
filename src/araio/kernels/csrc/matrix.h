// What the kernels compute on: a stored matrix, and activations in the form that its codec is multiplied by.
//
// Sizes are 64-bit; nothing here owns memory, and no function here is left to the linker; see simd.h. Letters
// as in ops.py: T tokens, O rows and I columns of a matrix.
#pragma once

#include <stdint.h>

namespace araio {

// How a matrix is stored; araio/codecs has the layouts.
enum class Codec { f32, bf16, fp8, q8, q4 };
constexpr int kCodecs = 5;

// Rows of a tile and columns of a block of q8 and q4.
constexpr int64_t kTileRows = 16;
constexpr int64_t kBlockColumns = 32;

// Columns that an fp8 row is padded to where it meets activations.
constexpr int64_t kFp8Group = 64;

static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Matrix {
    Codec codec;
    int64_t rows, columns;
    const void* data;   // f32, bf16, fp8: (O, I); q8, q4: (tiles, blocks, 512 or 256)
    const void* scale;  // fp8: float (O / block_rows, I / block_columns); q8, q4: half (tiles, blocks, 16)
    int64_t block_rows, block_columns;  // of fp8; block_columns is a multiple of kFp8Group

    [[gnu::always_inline]] int64_t blocks() const { return ceil_div(columns, kBlockColumns); }
};

// T rows of I activations. f32 and bf16 multiply `values` as they are; fp8 wants them padded and in the order
// in which its codes are widened; q8 and q4 want integers, `value = integer * scale` in blocks of 32.
struct Activations {
    const float* values;     // (T, stride), or null
    const int8_t* integers;  // (T, blocks * 32), zero behind the last column, or null
    const float* scales;     // (T, blocks)
    const int32_t* sums;     // (T, blocks) sum of a block's integers
    int64_t stride;          // columns of `values` in memory
    int64_t blocks;

    // The rows from `first` on.
    [[gnu::always_inline]] Activations from(int64_t first) const {
        if (values) return {values + first * stride, nullptr, nullptr, nullptr, stride, blocks};
        return {nullptr,
                integers + first * blocks * kBlockColumns,
                scales + first * blocks,
                sums + first * blocks,
                stride,
                blocks};
    }
};

}  // namespace araio
