#include "linear.h"

#include <algorithm>

#include "prepared.h"
#include "thread_pool.h"

namespace araio {
namespace {

constexpr int64_t kItemsPerThread = 6;

// Weights of an item: below this, handing it out costs more than it saves.
constexpr int64_t kNumbersPerItem = 1 << 15;

}  // namespace

int64_t rows_per_item(int64_t rows, int64_t columns, int threads) {
    if (threads < 2) return ceil_div(rows, kTileRows) * kTileRows;
    const int64_t balanced = ceil_div(rows, kItemsPerThread * threads);
    const int64_t worthwhile = ceil_div(kNumbersPerItem, columns);
    return ceil_div(std::max(balanced, worthwhile), kTileRows) * kTileRows;
}

void linear(const Operations& operations, const Matrix& weight, const float* x, int64_t T, float* y) {
    static thread_local Prepared prepared;
    prepared.begin(operations, x, T, weight.columns);
    prepared.need(weight.codec);
    const Activations activations = prepared.as(weight.codec);
    const auto multiply = operations.multiply[static_cast<int>(weight.codec)];
    ThreadPool& pool = ThreadPool::shared();
    const int64_t O = weight.rows, step = rows_per_item(O, weight.columns * T, pool.threads());
    pool.run(ceil_div(O, step), T * O * weight.columns, [&](int64_t item) {
        const int64_t begin = item * step, end = std::min(begin + step, O);
        for (int64_t first = 0; first < T; first += kTokenTile) {
            multiply(weight, activations.from(first), nullptr, std::min(kTokenTile, T - first), begin, end,
                     y + first * O + begin, O);
        }
    });
}

}  // namespace araio
