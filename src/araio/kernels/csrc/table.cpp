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

void swiglu(float* gate, const float* up, int64_t count) {
    for (int64_t i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

void add_scaled(const float* x, float factor, float* y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

}  // namespace

const Operations operations = {
    {multiply_f32, multiply_bf16, multiply_fp8, multiply_q8, multiply_q4},
    to_integers,
    to_fp8_order,
    widen,
    rms_norm,
    swiglu,
    add_scaled,
};

}  // namespace araio::ARAIO_ISA
