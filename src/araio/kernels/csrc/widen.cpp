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

template <int kBits>
void widen_tiles(const Matrix& weight, int64_t row, float* y) {
    const int64_t blocks = weight.blocks(), tile = row / kTileRows, r = row % kTileRows;
    const auto* const data = static_cast<const uint8_t*>(weight.data) + tile * blocks * kBlockBytes<kBits>;
    const auto* const scale = static_cast<const uint16_t*>(weight.scale) + tile * blocks * kTileRows;
    for (int64_t i = 0; i < weight.columns; ++i) {
        const int64_t b = i / kBlockColumns, column = i % kBlockColumns;
        const uint8_t* const block = data + b * kBlockBytes<kBits>;
        int32_t integer;
        if constexpr (kBits == 4) {
            const uint8_t both = block[(column % 16 / 4 * kTileRows + r) * 4 + column % 4];
            integer = (column < 16 ? both & 15 : both >> 4) - 8;
        } else {
            integer = static_cast<int8_t>(block[(column / 4 * kTileRows + r) * 4 + column % 4]);
        }
        y[i] = static_cast<float>(integer) * half_value(scale[b * kTileRows + r]);
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
            for (int64_t row = begin; row < end; ++row) widen_tiles<8>(weight, row, y + (row - begin) * I);
            return;
        case Codec::q4:
            for (int64_t row = begin; row < end; ++row) widen_tiles<4>(weight, row, y + (row - begin) * I);
            return;
    }
}

}  // namespace araio::ARAIO_ISA
