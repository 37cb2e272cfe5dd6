// The operations that exist in C++, as one table of pointers per instruction set.
//
// Sizes are 64-bit, matrices are row-major and contiguous, nothing is allocated and nothing is checked here:
// bindings.cpp has done both. A bfloat16 is the upper half of a float32, carried as uint16_t.
#pragma once

#include <cstdint>

namespace araio {

// Tokens of one expert that are worked on together: their rows stay in the second-level cache.
constexpr int64_t kTokenTile = 32;

// The tokens that one expert serves.
struct Batch {
    const int64_t* tokens;  // (count,) rows of x and y, distinct
    const float* weights;   // (count,) what the router multiplies the expert's answer by
    int64_t count;
};

// One SwiGLU feed-forward layer; Number is float or uint16_t (bfloat16).
template <typename Number>
struct FeedForward {
    const Number* gate_proj;  // (F, D)
    const Number* up_proj;    // (F, D)
    const Number* down_proj;  // (D, F)
    int64_t D;
    int64_t F;
};

// Floats of scratch that an expert needs: gathered rows of x, then gate, up and the answer.
constexpr int64_t expert_scratch(int64_t D, int64_t F) { return kTokenTile * (2 * D + 2 * F); }

struct Operations {
    // y[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight        x, y (T, D), weight (D,)
    void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t T, int64_t D);

    // y = x weight^T                                         x (T, I), weight (O, I), y (T, O)
    void (*linear_bf16)(const float* x, const uint16_t* weight, float* y, int64_t T, int64_t O, int64_t I);

    // y[t] += w * down(silu(gate x[t]) * (up x[t])) for each token of the batch      x, y (T, D)
    void (*expert_f32)(const float* x, FeedForward<float> expert, Batch batch, float* scratch, float* y);
    void (*expert_bf16)(const float* x, FeedForward<uint16_t> expert, Batch batch, float* scratch, float* y);
};

// One table for each width that was compiled; a width may be used only where the CPU has it.
namespace baseline {
extern const Operations operations;
}
namespace avx2 {
extern const Operations operations;
}
namespace avx512 {
extern const Operations operations;
}

}  // namespace araio
