// Rows of a stored matrix as float32.

#include "fp8.h"
#include "pieces.h"
#include "tiles.h"

namespace araio::ARAIO_ISA {
namespace {

void widen_bf16(const uint16_t* bits, int64_t count, float* y) {
    for (int64_t i = 0; i < count; ++i) y[i] = number(bits[i]);
}

void widen_fp8(const Matrix& weight, int64_t row, float* y) {
    const int64_t I = weight.columns, scales = ceil_div(I, weight.block_columns);
    const auto* const codes = static_cast<const uint8_t*>(weight.data) + row * I;
    const auto* const scale = static_cast<const float*>(weight.scale) + row / weight.block_rows * scales;
    for (int64_t group = 0; group < I; group += kFp8Group) {
        const int64_t count = I - group < kFp8Group ? I - group : kFp8Group;
        uint8_t padded[kFp8Group] = {};
        memcpy(padded, codes + group, static_cast<size_t>(count));
        Floats wide[kFp8Vectors];
        Fp8Reader()(padded, wide);
        const float factor = scale[group / weight.block_columns] * kFp8Factor;
        for (int64_t place = 0; place < kFp8Group; ++place) {
            const int64_t i = fp8_source(place);
            if (i < count) y[group + i] = wide[place / kLanes][place % kLanes] * factor;
        }
    }
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
