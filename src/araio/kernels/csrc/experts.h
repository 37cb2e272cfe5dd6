// The feed-forward layers of a step: a dense one, a shared one, all routed experts at once, or those of them
// that have arrived, whose answers are added up when all are there.
#pragma once

#include <vector>

#include "matrix.h"
#include "operations.h"

namespace araio {

// One SwiGLU layer; gate and up (F, D), down (D, F).
struct FeedForward {
    Matrix gate, up, down;
};

// Which tokens each layer serves: layer e has the entries [ends[e - 1], ends[e]).
struct Assignment {
    std::vector<int64_t> tokens;  // row of x of each entry, distinct within a layer
    std::vector<int64_t> places;  // of the entry in the step's ids (T, K), and in arrays beside them
    std::vector<int64_t> ends;
};

// y[token] += weights[place] * answer, where the answer of an entry is down(silu(gate x[token]) *
// (up x[token])); a token's answers are added in the order of the layers.
//   x, y (T, D), weights (T, K); all layers have one D and one F
void experts(const Operations& operations, const std::vector<FeedForward>& layers,
             const Assignment& assignment, const float* weights, const float* x, int64_t T, float* y);

// answers[place] = the answer of each entry.      answers (T, K, D)
void expert_answers(const Operations& operations, const std::vector<FeedForward>& layers,
                    const Assignment& assignment, const float* x, int64_t T, float* answers);

// y[t] = sum over k of weights[t, k] * answers[t, k] in ascending order of ids[t, k]: with the answers of all
// entries, what `experts` adds to zeros of y.
//   answers (T, K, D), ids, weights (T, K), y (T, D)
void combine_experts(const Operations& operations, const float* answers, const int32_t* ids,
                     const float* weights, int64_t T, int64_t K, int64_t D, float* y);

}  // namespace araio
