// The table of one instruction set, and the operations that are too small for a file of their own.

#include "pieces.h"

namespace araio::ARAIO_ISA {
namespace {

void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t T, int64_t D) {
    for (int64_t t = 0; t < T; ++t, x += D, y += D) {
        Floats squares = {};
        int64_t d = 0;
        for (; d + kLanes <= D; d += kLanes) squares += load(x + d) * load(x + d);
        float square = sum(squares);
        for (; d < D; ++d) square += x[d] * x[d];
        const float factor = 1.0f / sqrtf(square / static_cast<float>(D) + eps);
        for (d = 0; d < D; ++d) y[d] = x[d] * factor * weight[d];
    }
}

Floats silu(Floats x) { return x / (1.0f + exp(-x)); }

void swiglu(float* gate, const float* up, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(silu(load(gate + i)) * load(up + i), gate + i);
    if (i == count) return;
    float rest[kLanes] = {};
    memcpy(rest, gate + i, static_cast<size_t>(count - i) * sizeof(float));
    const Floats silu_rest = silu(load(rest));
    for (int64_t lane = 0; i + lane < count; ++lane) gate[i + lane] = silu_rest[lane] * up[i + lane];
}

void add_scaled(const float* x, float factor, float* y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

}  // namespace

const Operations operations = {
    {multiply_f32, multiply_bf16, multiply_fp8, multiply_q8, multiply_q4},
    {add_rows_f32, add_rows_bf16, add_rows_fp8, add_rows_q8, add_rows_q4},
    dot_tiles,
    to_integers,
    to_fp8_order,
    widen,
    rms_norm,
    swiglu,
    add_scaled,
    kLanes,
    attend,
    attend_bf16,
    no_sums,
    merge_sums,
    average,
};

}  // namespace araio::ARAIO_ISA
