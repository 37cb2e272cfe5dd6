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

// Tokens that share the unpacking of a weight; each has its own sums, so their number changes no bit.
constexpr int kTokens = 4;

// y[t * y_stride] = 16 rows . x[t * x_stride]
template <int kBits, int kT>
void dot_tile(const uint8_t* data, const uint16_t* scale, const float* x, int64_t x_stride, int64_t I,
              float* y, int64_t y_stride) {
    RowFloats totals[kT] = {};
    for (int64_t start = 0; start < I;
         start += kBlockColumns, data += kBlockBytes<kBits>, scale += kTileRows) {
        ask_for_block<kBits>(data, scale, kAhead / kBlockBytes<kBits>);
        float padded[kT][kBlockColumns] = {};
        const float* some[kT];
        for (int t = 0; t < kT; ++t) {
            some[t] = x + t * x_stride + start;
            if (I - start < kBlockColumns) {
                memcpy(padded[t], some[t], static_cast<size_t>(I - start) * sizeof(float));
                some[t] = padded[t];
            }
        }
        const HalfBlock<kBits, 0> first(data);
        const HalfBlock<kBits, 1> second(data);
        RowFloats sums[kT][2] = {};
        for (int i = 0; i < 16; ++i) {
            const RowFloats columns[2] = {first[i], second[i]};
            for (int t = 0; t < kT; ++t) {
                sums[t][0] += columns[0] * some[t][i];
                sums[t][1] += columns[1] * some[t][16 + i];
            }
        }
        const RowFloats scales = row_scales(scale);
        for (int t = 0; t < kT; ++t) totals[t] += (sums[t][0] + sums[t][1]) * scales;
    }
    for (int t = 0; t < kT; ++t) memcpy(y + t * y_stride, &totals[t], sizeof totals[t]);
}

// Blocks of a tile that are asked for before their turn: other tiles come in between.
constexpr int64_t kBlocksAhead = 2;

// Factors and sums of some tokens: rows of `factors`, and columns of a block in `y`.
struct Added {
    const float* factors;
    int64_t factors_stride;
    float* y;
    int64_t y_stride;
};

// Columns whose sums stay in registers, those of kT tokens.
template <int kT>
constexpr int kColumns = 16 / kT;

// y += some columns of a block of `tiles` tiles, whose blocks are `stride` apart.
template <int kBits, int kT, int kFirst>
void add_columns(const uint8_t* data, const uint16_t* scale, int64_t tiles, int64_t stride, const Added& to) {
    RowFloats sums[kT][kColumns<kT>] = {};
    for (int64_t tile = 0; tile < tiles; ++tile) {
        if constexpr (kFirst == 0) ask_for_block<kBits>(data, scale, kBlocksAhead);
        const RowFloats scales = row_scales(scale);
        const HalfBlock<kBits, kFirst / 16> half(data);
        RowFloats columns[kColumns<kT>];
        for (int i = 0; i < kColumns<kT>; ++i) columns[i] = half[kFirst % 16 + i];
        for (int t = 0; t < kT; ++t) {
            RowFloats factor;
            memcpy(&factor, to.factors + t * to.factors_stride + tile * kTileRows, sizeof factor);
            factor *= scales;
            for (int i = 0; i < kColumns<kT>; ++i) sums[t][i] += columns[i] * factor;
        }
        data += stride * kBlockBytes<kBits>;
        scale += stride * kTileRows;
    }
    for (int t = 0; t < kT; ++t) {
        float* const y = to.y + t * to.y_stride + kFirst;
        for (int i = 0; i < kColumns<kT>; i += 4) {
            const Quad added = sum_rows(sums[t] + i);
            for (int k = 0; k < 4; ++k) y[i + k] += added[k];
        }
    }
}

// All columns of a block.
template <int kBits, int kT, int kFirst = 0>
void add_block_columns(const uint8_t* data, const uint16_t* scale, int64_t tiles, int64_t stride,
                       const Added& to) {
    add_columns<kBits, kT, kFirst>(data, scale, tiles, stride, to);
    constexpr int kNext = kFirst + kColumns<kT>;
    if constexpr (kNext < kBlockColumns) {
        add_block_columns<kBits, kT, kNext>(data, scale, tiles, stride, to);
    }
}

template <int kT>
struct Count {
    static constexpr int value = kT;
};

// Calls work(token, a Count) until `count` tokens had their turn, kTokens at a time or one.
template <typename Work>
inline void for_tokens(int64_t count, const Work& work) {
    int64_t t = 0;
    for (; t + kTokens <= count; t += kTokens) work(t, Count<kTokens>());
    for (; t < count; ++t) work(t, Count<1>());
}

template <int kBits>
void dot(const Matrix& weight, int64_t begin, int64_t end, const Activations& x, int64_t count, float* y,
         int64_t stride) {
    const int64_t blocks = weight.blocks();
    for (int64_t row = begin; row < end; row += kTileRows) {
        const int64_t block = row / kTileRows * blocks;
        const auto* const data = static_cast<const uint8_t*>(weight.data) + block * kBlockBytes<kBits>;
        const auto* const scale = static_cast<const uint16_t*>(weight.scale) + block * kTileRows;
        for_tokens(count, [&](int64_t t, auto tokens) {
            dot_tile<kBits, decltype(tokens)::value>(data, scale, x.values + t * x.stride, x.stride,
                                                     weight.columns, y + t * stride + row - begin, stride);
        });
    }
}

template <int kBits>
void add(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count, float* y) {
    const int64_t blocks = weight.blocks(), first = begin / kTileRows * blocks, I = weight.columns;
    const int64_t rows = end - begin, tiles = rows / kTileRows;
    for (int64_t b = 0; b < blocks; ++b) {
        const auto* const data = static_cast<const uint8_t*>(weight.data) + (first + b) * kBlockBytes<kBits>;
        const auto* const scale = static_cast<const uint16_t*>(weight.scale) + (first + b) * kTileRows;
        const int64_t start = b * kBlockColumns, columns = I - start;
        for_tokens(count, [&](int64_t t, auto tokens) {
            constexpr int kT = decltype(tokens)::value;
            const float* const own = factors + t * rows;
            float* const out = y + t * I + start;
            if (columns >= kBlockColumns) {
                add_block_columns<kBits, kT>(data, scale, tiles, blocks, {own, rows, out, I});
                return;
            }
            float padded[kT][kBlockColumns] = {};
            add_block_columns<kBits, kT>(data, scale, tiles, blocks, {own, rows, padded[0], kBlockColumns});
            for (int k = 0; k < kT; ++k) {
                for (int64_t i = 0; i < columns; ++i) out[k * I + i] += padded[k][i];
            }
        });
    }
}

}  // namespace

void dot_tiles(const Matrix& weight, int64_t begin, int64_t end, const Activations& x, int64_t count,
               float* y, int64_t stride) {
    weight.codec == Codec::q4 ? dot<4>(weight, begin, end, x, count, y, stride)
                              : dot<8>(weight, begin, end, x, count, y, stride);
}

void add_rows_q8(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                 float* y) {
    add<8>(weight, begin, end, factors, count, y);
}

void add_rows_q4(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                 float* y) {
    add<4>(weight, begin, end, factors, count, y);
}

}  // namespace araio::ARAIO_ISA
