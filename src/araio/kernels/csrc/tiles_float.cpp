// Products of q8 and q4 with activations as they are: what attention asks of kv_b_proj, whose two forms would
// otherwise differ by the rounding of different activations.
//
// A vector has a number of each of a tile's 16 rows.

#include "pieces.h"
#include "tiles.h"

namespace araio::ARAIO_ISA {
namespace {

typedef float RowFloats __attribute__((vector_size(64)));
typedef int32_t RowInts __attribute__((vector_size(64)));

// 16 columns of a block, the first or the second half of it.
template <int kBits>
class HalfBlock {
  public:
    HalfBlock(const uint8_t* block, int half) : half_(half) {
        for (int j = 0; j < 4; ++j) {
            memcpy(&four_[j], block + 64 * (kBits == 4 ? j : 4 * half + j), sizeof four_[j]);
        }
    }

    // One of the columns.
    RowFloats operator[](int i) const {
        const int bit = i % 4 * 8;
        if constexpr (kBits == 8) return __builtin_convertvector((four_[i / 4] << (24 - bit)) >> 24, RowFloats);
        const RowInts nibbles = four_[i / 4] >> (bit + 4 * half_);
        if constexpr (kLanes == 16) return __builtin_shuffle(kNibbles, nibbles);  // by its lowest four bits
        return __builtin_convertvector((nibbles & 15) - 8, RowFloats);
    }

  private:
    static constexpr RowFloats kNibbles = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

    RowInts four_[4];  // 16 rows by 4 columns in each
    int half_;
};

inline RowFloats row_scales(const uint16_t* scale) {
    RowFloats scales;
    Rows::halves(scale).store(reinterpret_cast<float*>(&scales));
    return scales;
}

// The sums of the rows of four vectors.
inline Quad sum_rows(const RowFloats* values) {
    Floats folded[4];
    for (int i = 0; i < 4; ++i) {
        float lanes[kTileRows];
        memcpy(lanes, &values[i], sizeof lanes);
        folded[i] = load(lanes);
        for (int64_t lane = kLanes; lane < kTileRows; lane += kLanes) folded[i] += load(lanes + lane);
    }
    return sum_four(folded);
}

template <int kBits>
void dot_tile(const uint8_t* data, const uint16_t* scale, const float* x, int64_t I, float* y) {
    RowFloats total = {};
    for (int64_t start = 0; start < I;
         start += kBlockColumns, data += kBlockBytes<kBits>, scale += kTileRows) {
        float padded[kBlockColumns] = {};
        const int64_t count = I - start < kBlockColumns ? I - start : kBlockColumns;
        memcpy(padded, x + start, static_cast<size_t>(count) * sizeof(float));
        RowFloats sums[2] = {};
        for (int half = 0; half < 2; ++half) {
            const HalfBlock<kBits> columns(data, half);
            for (int i = 0; i < 16; ++i) sums[i % 2] += columns[i] * padded[16 * half + i];
        }
        total += (sums[0] + sums[1]) * row_scales(scale);
    }
    memcpy(y, &total, sizeof total);
}

// Half a block of columns of `tiles` tiles, whose blocks are `stride` apart.
template <int kBits>
void add_half(const uint8_t* data, const uint16_t* scale, int half, int64_t tiles, int64_t stride,
              const float* factors, float* y) {
    RowFloats sums[16] = {};
    for (int64_t tile = 0; tile < tiles; ++tile) {
        RowFloats factor;
        memcpy(&factor, factors + tile * kTileRows, sizeof factor);
        factor *= row_scales(scale + tile * stride * kTileRows);
        const HalfBlock<kBits> columns(data + tile * stride * kBlockBytes<kBits>, half);
        for (int i = 0; i < 16; ++i) sums[i] += columns[i] * factor;
    }
    for (int i = 0; i < 16; i += 4) {
        const Quad four = sum_rows(sums + i);
        for (int k = 0; k < 4; ++k) y[i + k] += four[k];
    }
}

template <int kBits>
void dot(const Matrix& weight, int64_t begin, int64_t end, const float* x, float* y) {
    const int64_t blocks = weight.blocks();
    for (int64_t row = begin; row < end; row += kTileRows) {
        const int64_t block = row / kTileRows * blocks;
        dot_tile<kBits>(static_cast<const uint8_t*>(weight.data) + block * kBlockBytes<kBits>,
                        static_cast<const uint16_t*>(weight.scale) + block * kTileRows, x, weight.columns,
                        y + row - begin);
    }
}

template <int kBits>
void add(const Matrix& weight, int64_t begin, int64_t end, const float* factors, float* y) {
    const int64_t blocks = weight.blocks(), first = begin / kTileRows * blocks, I = weight.columns;
    for (int64_t b = 0; b < blocks; ++b) {
        const auto* const data = static_cast<const uint8_t*>(weight.data) + (first + b) * kBlockBytes<kBits>;
        const auto* const scale = static_cast<const uint16_t*>(weight.scale) + (first + b) * kTileRows;
        float out[kBlockColumns] = {};
        for (int half = 0; half < 2; ++half) {
            add_half<kBits>(data, scale, half, (end - begin) / kTileRows, blocks, factors, out + 16 * half);
        }
        for (int64_t i = b * kBlockColumns; i < I && i < (b + 1) * kBlockColumns; ++i) {
            y[i] += out[i - b * kBlockColumns];
        }
    }
}

}  // namespace

void dot_tiles(const Matrix& weight, int64_t begin, int64_t end, const float* x, float* y) {
    weight.codec == Codec::q4 ? dot<4>(weight, begin, end, x, y) : dot<8>(weight, begin, end, x, y);
}

void add_tiles(const Matrix& weight, int64_t begin, int64_t end, const float* factors, float* y) {
    weight.codec == Codec::q4 ? add<4>(weight, begin, end, factors, y)
                              : add<8>(weight, begin, end, factors, y);
}

}  // namespace araio::ARAIO_ISA
