// Products with matrices whose rows lie one after the other: f32, bf16 and fp8. add_rows.cpp has weighted
// sums of such rows.
//
// A block of rows meets a block of tokens, each number loaded once for the whole block. A sum always runs
// over its terms in the same order, so a token's answer does not depend on what else is in its batch.

#include "fp8.h"
#include "pieces.h"

namespace araio::ARAIO_ISA {
namespace {

// Rows and tokens of a block: their sums hide the latency of a multiplication and fit into the registers.
constexpr int kRows = kLanes == 16 ? 4 : 2;
constexpr int kTokens = 4;

// Bytes of kR rows that stay in the first-level cache until it is their turn; rows that lie a power of two
// apart soon displace each other.
constexpr int64_t kNear = 6 << 10;

// While kR rows are at column i, asks for as many lines of the next kR rows. Short rows are asked for in the
// order of memory, which is fastest; of long ones the same columns, to be kept in the second-level cache.
template <int kR, typename Number>
ARAIO_ASKS void ask_ahead(const Number* rows, int64_t I, int64_t i) {
    constexpr int64_t kNumbers = kLine / static_cast<int64_t>(sizeof(Number));
    const Number* const next = rows + kR * I;
    if (kR * I * static_cast<int64_t>(sizeof(Number)) <= kNear) {
        for (int64_t r = 0; r < kR; ++r) __builtin_prefetch(next + kR * i + r * kNumbers, 0, 3);
    } else {
        for (int64_t r = 0; r < kR; ++r) __builtin_prefetch(next + r * I + i, 0, 2);
    }
}

// The sums of kR rows, with what lies behind the last whole vector.
template <int kR, typename Number>
inline void finish(const Floats* sums, const float* x, const Number* weight, int64_t done, int64_t I,
                   float* y) {
    if constexpr (kR == 4) {
        const Quad four = sum_four(sums);
        memcpy(y, &four, sizeof four);
    } else {
        for (int r = 0; r < kR; ++r) y[r] = sum(sums[r]);
    }
    for (int r = 0; r < kR; ++r) {
        for (int64_t i = done; i < I; ++i) y[r] += x[i] * number(weight[r * I + i]);
    }
}

// y[t][r] = x[t] . weight[r]      weight (kR, I)
template <int kR, int kT, typename Number>
inline void dot(const float* const* x, const Number* weight, int64_t I, float* const* y) {
    // Vectors of a cache line, which is asked for once.
    constexpr int64_t kVectors = 64 / (kLanes * static_cast<int64_t>(sizeof(Number)));
    Floats sums[kT][kR] = {};
    const auto add = [&](int64_t i) {
        Floats w[kR];
        for (int r = 0; r < kR; ++r) w[r] = load(weight + r * I + i);
        for (int t = 0; t < kT; ++t) {
            const Floats x_t = load(x[t] + i);
            for (int r = 0; r < kR; ++r) sums[t][r] += x_t * w[r];
        }
    };
    int64_t i = 0;
    for (; i + kVectors * kLanes <= I; i += kVectors * kLanes) {
        if (kT == 1) ask_ahead<kR>(weight, I, i);
        for (int64_t v = 0; v < kVectors; ++v) add(i + v * kLanes);
    }
    for (; i + kLanes <= I; i += kLanes) add(i);
    for (int t = 0; t < kT; ++t) finish<kR>(sums[t], x[t], weight, i, I, y[t]);
}

// Calls blocks.many or blocks.one with rows of x and y, until all `count` tokens had their turn.
template <typename Blocks>
inline void for_tokens(const Activations& x, const int64_t* tokens, int64_t count, float* y, int64_t stride,
                       const Blocks& blocks) {
    const float* inputs[kTokens];
    float* outputs[kTokens];
    int64_t m = 0;
    const auto gather = [&](int n) {
        for (int t = 0; t < n; ++t, ++m) {
            inputs[t] = x.values + (tokens ? tokens[m] : m) * x.stride;
            outputs[t] = y + m * stride;
        }
    };
    while (m + kTokens <= count) {
        gather(kTokens);
        blocks.many(inputs, outputs);
    }
    while (m < count) {
        gather(1);
        blocks.one(inputs, outputs);
    }
}

template <int kR, typename Number>
struct PlainRows {
    const Number* weight;
    int64_t I;

    void many(const float* const* x, float* const* y) const { dot<kR, kTokens>(x, weight, I, y); }
    void one(const float* const* x, float* const* y) const { dot<kR, 1>(x, weight, I, y); }
};

template <typename Number>
void multiply(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count, int64_t begin,
              int64_t end, float* y, int64_t stride) {
    const auto* const rows = static_cast<const Number*>(weight.data);
    const int64_t I = weight.columns;
    int64_t row = begin;
    for (; row + kRows <= end; row += kRows) {
        for_tokens(x, tokens, count, y + row - begin, stride, PlainRows<kRows, Number>{rows + row * I, I});
    }
    for (; row < end; ++row) {
        for_tokens(x, tokens, count, y + row - begin, stride, PlainRows<1, Number>{rows + row * I, I});
    }
}

// kAll rows of codes with their scales.
template <int kAll>
struct Fp8Rows {
    const uint8_t* codes;  // (kAll, I)
    const float* scale[kAll];
    int64_t I, block_columns;

    // With several tokens, two rows at a time leave registers for the widened codes of both.
    void many(const float* const* x, float* const* y) const {
        constexpr int kPair = kAll < 2 ? kAll : 2;
        for (int row = 0; row < kAll; row += kPair) dot<kPair, kTokens>(x, row, y);
    }
    void one(const float* const* x, float* const* y) const { dot<kAll, 1>(x, 0, y); }

    template <int kR, int kT>
    void dot(const float* const* x, int row, float* const* y) const {
        const uint8_t* const rows = codes + row * I;
        Floats totals[kT][kR] = {};
        for (int64_t start = 0, block = 0; start < I; start += block_columns, ++block) {
            Floats sums[kT][kR] = {};
            const int64_t stop = start + block_columns < I ? start + block_columns : I;
            int64_t i = start;
            for (; i + kFp8Group <= stop; i += kFp8Group) {
                if (kT == 1) ask_ahead<kR>(rows, I, i);
                add_group<kR, kT>(x, i, rows + i, I, sums);
            }
            if (i < stop) {  // the end of the rows, continued with zeros
                uint8_t rest[kR * kFp8Group] = {};
                for (int r = 0; r < kR; ++r) {
                    memcpy(rest + r * kFp8Group, rows + r * I + i, static_cast<size_t>(stop - i));
                }
                add_group<kR, kT>(x, i, rest, kFp8Group, sums);
            }
            for (int r = 0; r < kR; ++r) {
                const float factor = scale[row + r][block] * kFp8Half;
                for (int t = 0; t < kT; ++t) totals[t][r] += sums[t][r] * factor;
            }
        }
        for (int t = 0; t < kT; ++t) {
            for (int r = 0; r < kR; ++r) y[t][row + r] = sum(totals[t][r]);
        }
    }

    // 64 columns: x from `at` on, the codes of the rows `stride` apart.
    template <int kR, int kT>
    static inline void add_group(const float* const* x, int64_t at, const uint8_t* group, int64_t stride,
                                 Floats (&sums)[kT][kR]) {
        Floats w[kR][kFp8Vectors];
        for (int r = 0; r < kR; ++r) read_fp8(group + r * stride, w[r]);
        for (int v = 0; v < kFp8Vectors; ++v) {
            for (int t = 0; t < kT; ++t) {
                const Floats x_t = load(x[t] + at + v * kLanes);
                for (int r = 0; r < kR; ++r) sums[t][r] += x_t * w[r][v];
            }
        }
    }
};

template <int kR>
void multiply_fp8_rows(const Matrix& weight, int64_t row, const Activations& x, const int64_t* tokens,
                       int64_t count, float* y, int64_t stride) {
    const int64_t I = weight.columns, scales = ceil_div(I, weight.block_columns);
    Fp8Rows<kR> rows = {static_cast<const uint8_t*>(weight.data) + row * I, {}, I, weight.block_columns};
    for (int r = 0; r < kR; ++r) {
        rows.scale[r] = static_cast<const float*>(weight.scale) + (row + r) / weight.block_rows * scales;
    }
    for_tokens(x, tokens, count, y, stride, rows);
}

}  // namespace

void multiply_f32(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count,
                  int64_t begin, int64_t end, float* y, int64_t stride) {
    multiply<float>(weight, x, tokens, count, begin, end, y, stride);
}

void multiply_bf16(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count,
                   int64_t begin, int64_t end, float* y, int64_t stride) {
    multiply<uint16_t>(weight, x, tokens, count, begin, end, y, stride);
}

void multiply_fp8(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count,
                  int64_t begin, int64_t end, float* y, int64_t stride) {
    int64_t row = begin;
    for (; row + kRows <= end; row += kRows) {
        multiply_fp8_rows<kRows>(weight, row, x, tokens, count, y + row - begin, stride);
    }
    for (; row < end; ++row) multiply_fp8_rows<1>(weight, row, x, tokens, count, y + row - begin, stride);
}

void to_fp8_order(const float* x, int64_t T, int64_t I, float* values) {
    const int64_t padded = ceil_div(I, kFp8Group) * kFp8Group;
    for (int64_t t = 0; t < T; ++t, x += I, values += padded) {
        int64_t i = 0;
        for (; i + kFp8Group <= I; i += kFp8Group) to_fp8_order(x + i, kFp8Half, values + i);
        if (i < I) {
            float rest[kFp8Group] = {};
            memcpy(rest, x + i, static_cast<size_t>(I - i) * sizeof(float));
            to_fp8_order(rest, kFp8Half, values + i);
        }
    }
}

}  // namespace araio::ARAIO_ISA
