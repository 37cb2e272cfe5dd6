// Weighted sums of rows that lie one after the other, of f32, bf16 and fp8: what the absorbed form of
// attention asks of kv_b_proj. A row is read once for all tokens, each of which adds the rows in their order.

#include "fp8.h"
#include "pieces.h"

namespace araio::ARAIO_ISA {
namespace {

// y += factor * numbers, I of them
template <typename Number>
inline void add_row(const Number* numbers, int64_t I, float factor, float* y) {
    constexpr int64_t kNumbers = kLine / sizeof(Number);
    int64_t i = 0;
    for (; i + kNumbers <= I; i += kNumbers) {
        ask_for(after(numbers + i, kAhead));
        for (int64_t j = i; j < i + kNumbers; j += kLanes) {
            store(load(y + j) + factor * load(numbers + j), y + j);
        }
    }
    for (; i < I; ++i) y[i] += factor * number(numbers[i]);
}

template <typename Number>
void add_rows(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
              float* y) {
    const int64_t I = weight.columns, rows = end - begin;
    const auto* const numbers = static_cast<const Number*>(weight.data) + begin * I;
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t m = 0; m < count; ++m) add_row(numbers + r * I, I, factors[m * rows + r], y + m * I);
    }
}

// Rows that are added to a group of columns before the next: bringing their sum into the order of its columns
// costs as much as two of them.
constexpr int64_t kFp8Added = 32;

// y[0:count] += factor * (sum over rows of factors[r] * codes[r])      codes (rows, 64), rows `stride` apart
// Meanwhile as many lines from `next` on are asked for.
inline void add_fp8_group(const uint8_t* codes, int64_t stride, const uint8_t* next, const float* factors,
                          int64_t rows, float factor, int64_t count, float* y) {
    Floats sums[kFp8Vectors] = {};
    for (int64_t r = 0; r < rows; ++r) {
        Floats w[kFp8Vectors];
        ask_for(next + r * kLine);
        read_fp8(codes + r * stride, w);
        for (int v = 0; v < kFp8Vectors; ++v) sums[v] += factors[r] * w[v];
    }
    float ordered[kFp8Group], columns[kFp8Group];
    for (int v = 0; v < kFp8Vectors; ++v) store(sums[v], ordered + v * kLanes);
    from_fp8_order(ordered, factor, columns);
    for (int64_t i = 0; i < count; ++i) y[i] += columns[i];
}

// y += sum over rows of factors[r] * weight[begin + r], rows of one block      factors times kFp8Half
void add_fp8_rows(const Matrix& weight, int64_t begin, int64_t rows, const float* factors, float* y) {
    const int64_t I = weight.columns, scales = ceil_div(I, weight.block_columns);
    const auto* const codes = static_cast<const uint8_t*>(weight.data) + begin * I;
    const auto* const scale = static_cast<const float*>(weight.scale) + begin / weight.block_rows * scales;
    const auto add = [&](const uint8_t* group, int64_t stride, int64_t i, int64_t count) {
        const float factor = scale[i / weight.block_columns] * kFp8Half;
        add_fp8_group(group, stride, codes + (I + i) * rows, factors, rows, factor, count, y + i);
    };
    int64_t i = 0;
    for (; i + kFp8Group <= I; i += kFp8Group) add(codes + i, I, i, kFp8Group);
    if (i == I) return;
    uint8_t rest[kFp8Added * kFp8Group] = {};  // the end of the rows, continued with zeros
    for (int64_t r = 0; r < rows; ++r) {
        memcpy(rest + r * kFp8Group, codes + r * I + i, static_cast<size_t>(I - i));
    }
    add(rest, kFp8Group, i, I - i);
}

}  // namespace

void add_rows_f32(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                  float* y) {
    add_rows<float>(weight, begin, end, factors, count, y);
}

void add_rows_bf16(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                   float* y) {
    add_rows<uint16_t>(weight, begin, end, factors, count, y);
}

void add_rows_fp8(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                  float* y) {
    for (int64_t row = begin; row < end;) {
        const int64_t block_end = (row / weight.block_rows + 1) * weight.block_rows;
        const int64_t stop = block_end < end ? block_end : end;
        const int64_t rows = stop - row < kFp8Added ? stop - row : kFp8Added;
        for (int64_t m = 0; m < count; ++m) {
            const float* const own = factors + m * (end - begin) + row - begin;
            float raised[kFp8Added];
            for (int64_t r = 0; r < rows; ++r) raised[r] = own[r] * kFp8Half;
            add_fp8_rows(weight, row, rows, raised, y + m * weight.columns);
        }
        row += rows;
    }
}

}  // namespace araio::ARAIO_ISA
