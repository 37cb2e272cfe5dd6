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

// The numbers that the lowest four bits stand for.
inline RowFloats nibble_values(RowInts nibbles) {
#if ARAIO_LANES == 16
    constexpr RowFloats kValues = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    return reinterpret_cast<RowFloats>(
        _mm512_permutexvar_ps(reinterpret_cast<__m512i>(nibbles), reinterpret_cast<__m512>(kValues)));
#else
    return __builtin_convertvector((nibbles & 15) - 8, RowFloats);
#endif
}

// 16 columns of a block, the first or the second half of it.
template <int kBits, int kHalf>
class HalfBlock {
  public:
    explicit HalfBlock(const uint8_t* block) {
        for (int j = 0; j < 4; ++j) {
            memcpy(&four_[j], block + 64 * (kBits == 4 ? j : 4 * kHalf + j), sizeof four_[j]);
        }
    }

    // One of the columns.
    RowFloats operator[](int i) const {
        const int bit = i % 4 * 8;
        if constexpr (kBits == 8)
            return __builtin_convertvector((four_[i / 4] << (24 - bit)) >> 24, RowFloats);
        const RowInts nibbles = four_[i / 4] >> (bit + 4 * kHalf);
        return nibble_values(nibbles);
    }

  private:
    RowInts four_[4];  // 16 rows by 4 columns in each
};

inline RowFloats row_scales(const uint16_t* scale) {
    RowFloats scales;
    PerRow::halves(scale).store(reinterpret_cast<float*>(&scales));
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
        ask_for_block<kBits>(data, scale, kAhead / kBlockBytes<kBits>);
        float padded[kBlockColumns] = {};
        const float* some = x + start;
        if (I - start < kBlockColumns) {
            memcpy(padded, some, static_cast<size_t>(I - start) * sizeof(float));
            some = padded;
        }
        const HalfBlock<kBits, 0> first(data);
        const HalfBlock<kBits, 1> second(data);
        RowFloats sums[2] = {};
        for (int i = 0; i < 16; ++i) {
            sums[0] += first[i] * some[i];
            sums[1] += second[i] * some[16 + i];
        }
        total += (sums[0] + sums[1]) * row_scales(scale);
    }
    memcpy(y, &total, sizeof total);
}

// Blocks of a tile that are asked for before their turn: other tiles come in between.
constexpr int64_t kBlocksAhead = 2;

// y += half a block of columns of `tiles` tiles, whose blocks are `stride` apart.
template <int kBits, int kHalf>
void add_half(const uint8_t* data, const uint16_t* scale, int64_t tiles, int64_t stride, const float* factors,
              float* y) {
    RowFloats sums[16];
    for (int i = 0; i < 16; ++i) sums[i] = RowFloats{};
    for (int64_t tile = 0; tile < tiles; ++tile) {
        RowFloats factor;
        memcpy(&factor, factors + tile * kTileRows, sizeof factor);
        factor *= row_scales(scale);
        if constexpr (kHalf == 0) ask_for_block<kBits>(data, scale, kBlocksAhead);
        const HalfBlock<kBits, kHalf> columns(data);
        for (int i = 0; i < 16; ++i) sums[i] += columns[i] * factor;
        data += stride * kBlockBytes<kBits>;
        scale += stride * kTileRows;
    }
    for (int i = 0; i < 16; i += 4) {
        const RowFloats four[4] = {sums[i], sums[i + 1], sums[i + 2], sums[i + 3]};
        const Quad added = sum_rows(four);
        for (int k = 0; k < 4; ++k) y[i + k] += added[k];
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
        const int64_t tiles = (end - begin) / kTileRows, start = b * kBlockColumns;
        float padded[kBlockColumns] = {};
        float* const out = I - start < kBlockColumns ? padded : y + start;
        add_half<kBits, 0>(data, scale, tiles, blocks, factors, out);
        add_half<kBits, 1>(data, scale, tiles, blocks, factors, out + 16);
        if (out == padded) {
            for (int64_t i = start; i < I; ++i) y[i] += padded[i - start];
        }
    }
}

}  // namespace

void dot_tiles(const Matrix& weight, int64_t begin, int64_t end, const float* x, float* y) {
    weight.codec == Codec::q4 ? dot<4>(weight, begin, end, x, y) : dot<8>(weight, begin, end, x, y);
}

void add_rows_q8(const Matrix& weight, int64_t begin, int64_t end, const float* factors, float* y) {
    add<8>(weight, begin, end, factors, y);
}

void add_rows_q4(const Matrix& weight, int64_t begin, int64_t end, const float* factors, float* y) {
    add<4>(weight, begin, end, factors, y);
}

}  // namespace araio::ARAIO_ISA
