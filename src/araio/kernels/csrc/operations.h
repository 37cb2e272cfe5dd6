// The arithmetic as one table of pointers per instruction set. Nothing is allocated, checked or run on
// threads here: each function does one piece of an operation, which its caller cut for it.
#pragma once

#include "matrix.h"
#include "queries.h"

namespace araio {

// Pieces are at most this many tokens, so that their activations stay in the second-level cache while rows of
// a matrix go by; rows may be any number, and begin at a multiple of kTileRows.
constexpr int64_t kTokenTile = 128;

struct Operations {
    // y[m * stride + r] = weight[begin + r] . x[tokens[m]], m < count, r < end - begin; tokens null: 0, 1,
    // ... A sum runs over its terms in the same order however many tokens there are.
    using Multiply = void (*)(const Matrix& weight, const Activations& x, const int64_t* tokens,
                              int64_t count, int64_t begin, int64_t end, float* y, int64_t stride);
    Multiply multiply[kCodecs];

    // What attention asks of kv_b_proj, always with float32 activations, for its two forms would otherwise
    // differ by more than rounding. Of q8 and q4 only whole tiles.
    // y[m] += sum over r of factors[m][r] * weight[begin + r], m < count     factors (count, end - begin)
    using AddRows = void (*)(const Matrix& weight, int64_t begin, int64_t end, const float* factors,
                             int64_t count, float* y);
    AddRows add_rows[kCodecs];
    // y[m * stride + r] = weight[begin + r] . x[m], m < count, of q8 and q4; `multiply` is that for the
    // others.
    void (*dot_tiles)(const Matrix& weight, int64_t begin, int64_t end, const Activations& x, int64_t count,
                      float* y, int64_t stride);

    // Integers, scales and sums of T rows of x (T, I), for q8 and q4.
    void (*to_integers)(const float* x, int64_t T, int64_t I, int8_t* integers, float* scales, int32_t* sums);
    // Rows of x (T, I) padded to multiples of kFp8Group and reordered within them, for fp8.
    void (*to_fp8_order)(const float* x, int64_t T, int64_t I, float* values);
    // y = weight[begin:end] as float32, (end - begin, I)
    void (*widen)(const Matrix& weight, int64_t begin, int64_t end, float* y);

    // y[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight     x, y (T, D)
    void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t T, int64_t D);
    // gate = silu(gate) * up, count numbers
    void (*swiglu)(float* gate, const float* up, int64_t count);
    // y += factor * x, count numbers
    void (*add_scaled)(const float* x, float factor, float* y, int64_t count);

    // Queries that attention works on at a time.
    int64_t lanes;
    // Adds what queries see of these positions to their sums.     scratch attend_scratch(...) numbers
    void (*attend)(const Queries& queries, const Positions<float>& positions, float* scratch);
    void (*attend_bf16)(const Queries& queries, const Positions<uint16_t>& positions, float* scratch);
    // Sums of no position at all, for `count` queries.
    void (*no_sums)(int64_t count, int64_t Y, float* sums);
    // Adds the sums over later positions to those over earlier ones, for `count` queries.
    void (*merge_sums)(const float* more, int64_t count, int64_t Y, float* sums);
    // y[m * stride + i] = mixed[m][i] / total[m], i < Y
    void (*average)(const float* sums, int64_t count, int64_t Y, float* y, int64_t stride);
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
