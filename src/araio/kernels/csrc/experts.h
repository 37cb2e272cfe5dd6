// The feed-forward layers of a step: a dense one, a shared one, or all routed experts at once.
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
    std::vector<int64_t> tokens;  // row of x and y of each entry, distinct within a layer
    std::vector<float> weights;   // what the layer's answer is multiplied by
    std::vector<int64_t> ends;
};

// y[t] = sum of weight * down(silu(gate x[t]) * (up x[t])) over the layers that serve t, in their order.
//   x, y (T, D); all layers have one D
void experts(const Operations& operations, const std::vector<FeedForward>& layers,
             const Assignment& assignment, const float* x, int64_t T, float* y);

}  // namespace araio
