#include "experts.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "linear.h"
#include "prepared.h"
#include "scratch.h"
#include "thread_pool.h"

namespace araio {
namespace {

// Work on a range of rows of one layer.
struct Item {
    size_t layer;
    int64_t begin, end;
};

void copy(const float* from, int64_t count, float* to) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

void multiply(const Operations& operations, const Matrix& weight, const Prepared& x, const int64_t* tokens,
              int64_t count, int64_t begin, int64_t end, float* y, int64_t stride) {
    operations.multiply[static_cast<int>(weight.codec)](weight, x.as(weight.codec), tokens, count, begin, end,
                                                        y, stride);
}

int64_t first_entry(const Assignment& assignment, size_t layer) {
    return layer == 0 ? 0 : assignment.ends[layer - 1];
}

// hidden[entry] = silu(gate x[token]) * (up x[token]), for the item's rows      hidden (entries, F)
void hidden_rows(const Operations& operations, const FeedForward& layer, const Prepared& x,
                 const Assignment& assignment, const Item& item, float* hidden) {
    static thread_local Scratch<float> scratch;
    const int64_t rows = item.end - item.begin, F = layer.gate.rows;
    float* const up = scratch.take(kTokenTile * rows);
    const int64_t stop = assignment.ends[item.layer];
    for (int64_t first = first_entry(assignment, item.layer); first < stop; first += kTokenTile) {
        const int64_t count = std::min(kTokenTile, stop - first);
        const int64_t* const tokens = assignment.tokens.data() + first;
        float* const gate = hidden + first * F + item.begin;
        multiply(operations, layer.gate, x, tokens, count, item.begin, item.end, gate, F);
        multiply(operations, layer.up, x, tokens, count, item.begin, item.end, up, rows);
        for (int64_t m = 0; m < count; ++m) operations.swiglu(gate + m * F, up + m * rows, rows);
    }
}

// What becomes of rows [begin, begin + rows) of an entry's answer.
using TakeAnswer = std::function<void(size_t entry, const float* answer, int64_t begin, int64_t rows)>;

// Gives rows of down(hidden[entry]) to `take`, of every layer in turn, so that a token's answers come in the
// order of the layers whichever thread does it.
void output_rows(const Operations& operations, const std::vector<FeedForward>& layers, const Prepared& hidden,
                 const Assignment& assignment, int64_t begin, int64_t end, const TakeAnswer& take) {
    static thread_local Scratch<float> scratch;
    const int64_t rows = end - begin;
    float* const answer = scratch.take(kTokenTile * rows);
    for (size_t e = 0; e < layers.size(); ++e) {
        for (int64_t first = first_entry(assignment, e); first < assignment.ends[e]; first += kTokenTile) {
            const int64_t count = std::min(kTokenTile, assignment.ends[e] - first);
            int64_t entries[kTokenTile];
            for (int64_t m = 0; m < count; ++m) entries[m] = first + m;
            multiply(operations, layers[e].down, hidden, entries, count, begin, end, answer, rows);
            for (int64_t m = 0; m < count; ++m) {
                take(static_cast<size_t>(first + m), answer + m * rows, begin, rows);
            }
        }
    }
}

// Ranges of rows of every layer, about equal and enough for all threads.
std::vector<Item> items_of(const std::vector<FeedForward>& layers, int64_t entries, int threads) {
    const int64_t D = layers[0].gate.columns, F = layers[0].gate.rows;
    const auto count = static_cast<int64_t>(layers.size());
    const int64_t tokens = ceil_div(entries, count);
    const int64_t step = std::min(rows_per_item(F * count, 2 * D * tokens, threads), F);
    std::vector<Item> items;
    for (size_t e = 0; e < layers.size(); ++e) {
        for (int64_t begin = 0; begin < F; begin += step)
            items.push_back({e, begin, std::min(begin + step, F)});
    }
    return items;
}

// Gives the answers of all entries to `take`, in rows, on all threads.
void for_answers(const Operations& operations, const std::vector<FeedForward>& layers,
                 const Assignment& assignment, const float* x, int64_t T, const TakeAnswer& take) {
    static thread_local Prepared prepared_x, prepared_hidden;
    static thread_local Scratch<float> scratch;
    const int64_t entries = assignment.ends.back();
    if (entries == 0) return;
    ThreadPool& pool = ThreadPool::shared();
    const int64_t D = layers[0].gate.columns, F = layers[0].gate.rows;
    // References, for a worker that names a thread-local object gets its own.
    Prepared &inputs = prepared_x, &middle = prepared_hidden;
    float* const hidden = scratch.take(entries * F);

    inputs.begin(operations, x, T, D);
    for (const FeedForward& layer : layers) {
        inputs.need(layer.gate.codec);
        inputs.need(layer.up.codec);
    }
    const std::vector<Item> items = items_of(layers, entries, pool.threads());
    pool.run(static_cast<int64_t>(items.size()), 2 * entries * F * D, [&](int64_t i) {
        const Item& item = items[static_cast<size_t>(i)];
        hidden_rows(operations, layers[item.layer], inputs, assignment, item, hidden);
    });

    middle.begin(operations, hidden, entries, F);
    for (const FeedForward& layer : layers) middle.need(layer.down.codec);
    const int64_t step = rows_per_item(D, F * entries, pool.threads());
    pool.run(ceil_div(D, step), entries * D * F, [&](int64_t item) {
        const int64_t begin = item * step;
        output_rows(operations, layers, middle, assignment, begin, std::min(begin + step, D), take);
    });
}

// y = the weighted sum of one token's answers, in ascending order of id.      answers (K, D)
void combine_token(const Operations& operations, const float* answers, const int32_t* ids,
                   const float* weights, int64_t K, int64_t D, float* y) {
    std::vector<int64_t> order(static_cast<size_t>(K));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return ids[a] < ids[b]; });
    std::fill_n(y, D, 0.0f);
    for (const int64_t k : order) operations.add_scaled(answers + k * D, weights[k], y, D);
}

}  // namespace

void experts(const Operations& operations, const std::vector<FeedForward>& layers,
             const Assignment& assignment, const float* weights, const float* x, int64_t T, float* y) {
    if (layers.empty()) return;
    const int64_t D = layers[0].down.rows;
    for_answers(operations, layers, assignment, x, T,
                [&](size_t entry, const float* answer, int64_t begin, int64_t rows) {
                    operations.add_scaled(answer, weights[assignment.places[entry]],
                                          y + assignment.tokens[entry] * D + begin, rows);
                });
}

void expert_answers(const Operations& operations, const std::vector<FeedForward>& layers,
                    const Assignment& assignment, const float* x, int64_t T, float* answers) {
    static thread_local Scratch<float> scratch;
    if (layers.empty()) return;
    const int64_t D = layers[0].down.rows;
    const auto entries = static_cast<int64_t>(assignment.tokens.size());
    const TakeAnswer take = [&](size_t entry, const float* answer, int64_t begin, int64_t rows) {
        copy(answer, rows, answers + assignment.places[entry] * D + begin);
    };
    if (entries >= T) return for_answers(operations, layers, assignment, x, T, take);
    // Few of a long step's tokens choose the same expert, and only those are worth preparing.
    Assignment served = assignment;
    std::iota(served.tokens.begin(), served.tokens.end(), 0);
    float* const rows = scratch.take(entries * D);
    for (const int64_t entry : served.tokens) {
        copy(x + assignment.tokens[static_cast<size_t>(entry)] * D, D, rows + entry * D);
    }
    for_answers(operations, layers, served, rows, entries, take);
}

void combine_experts(const Operations& operations, const float* answers, const int32_t* ids,
                     const float* weights, int64_t T, int64_t K, int64_t D, float* y) {
    ThreadPool::shared().run(T, T * K * D, [&](int64_t t) {
        combine_token(operations, answers + t * K * D, ids + t * K, weights + t * K, K, D, y + t * D);
    });
}

}  // namespace araio
