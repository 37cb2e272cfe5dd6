// Rows of a stored matrix as float32.

#include "fp8.h"
#include "pieces.h"
#include "tiles.h"

namespace araio::ARAIO_ISA {
namespace {

void widen_bf16(const uint16_t* bits, int64_t count, float* y) {
    constexpr int64_t kNumbers = kLine / sizeof *bits;
    int64_t i = 0;
    for (; i + kNumbers <= count; i += kNumbers) {
        ask_for(bits + i + kAhead / sizeof *bits);
        for (int64_t j = i; j < i + kNumbers; j += kLanes) store(load(bits + j), y + j);
    }
    for (; i < count; ++i) y[i] = number(bits[i]);
}

void widen_fp8(const Matrix& weight, int64_t row, float* y) {
    const int64_t I = weight.columns, scales = ceil_div(I, weight.block_columns);
    const auto* const codes = static_cast<const uint8_t*>(weight.data) + row * I;
    const auto* const scale = static_cast<const float*>(weight.scale) + row / weight.block_rows * scales;
    const auto widen_group = [&](const uint8_t* group, int64_t column, float* out) {
        Floats wide[kFp8Vectors];
        float ordered[kFp8Group];
        read_fp8(group, wide);
        for (int v = 0; v < kFp8Vectors; ++v) store(wide[v] * kFp8Half, ordered + v * kLanes);
        from_fp8_order(ordered, scale[column / weight.block_columns] * kFp8Half, out);
    };
    int64_t i = 0;
    for (; i + kFp8Group <= I; i += kFp8Group) {
        ask_for(codes + i + kAhead);
        widen_group(codes + i, i, y + i);
    }
    if (i == I) return;
    const auto rest = static_cast<size_t>(I - i);
    uint8_t padded[kFp8Group] = {};
    float out[kFp8Group];
    memcpy(padded, codes + i, rest);
    widen_group(padded, i, out);
    memcpy(y + i, out, rest * sizeof(float));
}

// The integers of a block in the order of q8: 8 groups of 16 rows of 4 columns.
template <int kBits>
inline void unpack(const uint8_t* block, int8_t* integers) {
    if constexpr (kBits == 4) {
        for (int64_t i = 0; i < kBlockBytes<4>; ++i) {
            integers[i] = static_cast<int8_t>((block[i] & 15) - 8);
            integers[i + kBlockBytes<4>] = static_cast<int8_t>((block[i] >> 4) - 8);
        }
    } else {
        memcpy(integers, block, kBlockBytes<8>);
    }
}

// Rows [begin, end) of one tile; a block is unpacked once for all of them.
template <int kBits>
void widen_tile(const Matrix& weight, int64_t begin, int64_t end, float* y) {
    const int64_t I = weight.columns, blocks = weight.blocks(), first_block = begin / kTileRows * blocks;
    const auto* const data = static_cast<const uint8_t*>(weight.data) + first_block * kBlockBytes<kBits>;
    const auto* const scale = static_cast<const uint16_t*>(weight.scale) + first_block * kTileRows;
    for (int64_t b = 0; b < blocks; ++b) {
        int8_t integers[kBlockBytes<8>];
        unpack<kBits>(data + b * kBlockBytes<kBits>, integers);
        const int64_t start = b * kBlockColumns,
                      count = I - start < kBlockColumns ? I - start : kBlockColumns;
        for (int64_t row = begin; row < end; ++row) {
            const int64_t r = row % kTileRows;
            int8_t line[kBlockColumns];
            for (int64_t j = 0; j < kBlockColumns / 4; ++j) {
                memcpy(line + 4 * j, integers + (j * kTileRows + r) * 4, 4);
            }
            const float factor = half_value(scale[b * kTileRows + r]);
            float values[kBlockColumns];
            for (int64_t i = 0; i < kBlockColumns; ++i) values[i] = static_cast<float>(line[i]) * factor;
            memcpy(y + (row - begin) * I + start, values, static_cast<size_t>(count) * sizeof(float));
        }
    }
}

template <int kBits>
void widen_tiles(const Matrix& weight, int64_t begin, int64_t end, float* y) {
    for (int64_t row = begin; row < end;) {
        const int64_t tile_end = (row / kTileRows + 1) * kTileRows, stop = tile_end < end ? tile_end : end;
        widen_tile<kBits>(weight, row, stop, y + (row - begin) * weight.columns);
        row = stop;
    }
}

}  // namespace

void widen(const Matrix& weight, int64_t begin, int64_t end, float* y) {
    const int64_t I = weight.columns, count = (end - begin) * I;
    switch (weight.codec) {
        case Codec::f32:
            memcpy(y, static_cast<const float*>(weight.data) + begin * I,
                   static_cast<size_t>(count) * sizeof(float));
            return;
        case Codec::bf16:
            return widen_bf16(static_cast<const uint16_t*>(weight.data) + begin * I, count, y);
        case Codec::fp8:
            for (int64_t row = begin; row < end; ++row) widen_fp8(weight, row, y + (row - begin) * I);
            return;
        case Codec::q8:
            return widen_tiles<8>(weight, begin, end, y);
        case Codec::q4:
            return widen_tiles<4>(weight, begin, end, y);
    }
}

}  // namespace araio::ARAIO_ISA
