// What attention computes on: a few queries at a time, against a range of positions.
//
// Softmax runs over positions that come in pieces (Milakov and Gimelshein 2018, online normaliser): beside
// the weighted sum of the values, a query keeps its largest score so far and the sum of exp(score - largest).
#pragma once

#include <stdint.h>

namespace araio {

// Up to `Operations::lanes` queries, one in each lane of a vector.
struct Queries {
    int64_t count;
    const float* q;       // (X, lanes), times the scale of the scores; any finite number behind count
    const int64_t* seen;  // (lanes): query l sees the positions before seen[l]
    float* sums;          // (2 + Y, lanes) numbers: largest score, total weight, then (lanes, Y) mixed values
};

// Positions from `first` on. Scores come from X numbers of a key, answers from Y of a value.
template <typename Number>
struct Positions {
    int64_t first, count;
    const Number* keys;  // (count, X), rows key_stride apart
    int64_t X, key_stride;
    const Number* values;  // (count, Y), rows value_stride apart
    int64_t Y, value_stride;
};

// Scores are made for so many positions at a time, if need be beyond the last: enough to hide the latency of
// a multiplication.
constexpr int64_t kScoreRows = 8;

// Working memory of `Operations::attend` for up to `count` positions: their weights, and keys that had to be
// widened.
static constexpr int64_t attend_scratch(int64_t lanes, int64_t count, int64_t X) {
    return (count + kScoreRows) * lanes + kScoreRows * X;
}

// Numbers in `Queries::sums`.
static constexpr int64_t sums_size(int64_t lanes, int64_t Y) { return lanes * (2 + Y); }

}  // namespace araio
