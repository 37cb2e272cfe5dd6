// The arithmetic, written once with the compiler's vector types and compiled once per instruction set:
// ARAIO_ISA names the namespace, ARAIO_LANES the floats in a vector.
//
// A sum always runs over its terms in the same order, however many rows or tokens are blocked together, so
// that a token's answer does not depend on what else is in its batch.
//
// Only C headers are included. An inline function of the C++ library compiled here for AVX-512 could be the
// copy that the linker keeps for everyone, and a lesser CPU would stop on it.

#include "operations.h"

#include <math.h>
#include <string.h>

namespace araio::ARAIO_ISA {
namespace {

constexpr int64_t kLanes = ARAIO_LANES;

// Rows of a weight matrix per block: with four tokens it fills the registers and does not spill them.
constexpr int kRows = kLanes == 16 ? 4 : 2;
constexpr int kTokens = 4;

typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef uint32_t Words __attribute__((vector_size(kLanes * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(kLanes * sizeof(uint16_t))));

inline float number(float value) { return value; }

inline float number(uint16_t bits) {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

inline Floats load(const float* from) {
    Floats values;
    memcpy(&values, from, sizeof values);
    return values;
}

inline Floats load(const uint16_t* from) {
    Halves bits;
    memcpy(&bits, from, sizeof bits);
    return reinterpret_cast<Floats>(__builtin_convertvector(bits, Words) << 16);
}

// Halves are added to halves, which the compiler turns into a few shuffles.
inline float sum(Floats values) {
    float lanes[kLanes];
    memcpy(lanes, &values, sizeof values);
    for (int64_t half = kLanes / 2; half > 0; half /= 2) {
        for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

// y[t][r] = x[t] . weight[r] for kR rows and kT tokens, each x and weight loaded once for the whole block.
//   x (kT, I), weight (kR, I), y rows `stride` apart
template <int kR, int kT, typename Number>
inline void dot_block(const float* x, const Number* weight, float* y, int64_t I, int64_t stride) {
    Floats sums[kT][kR] = {};
    int64_t i = 0;
    for (; i + kLanes <= I; i += kLanes) {
        Floats w[kR];
        for (int r = 0; r < kR; ++r) w[r] = load(weight + r * I + i);
        for (int t = 0; t < kT; ++t) {
            const Floats x_t = load(x + t * I + i);
            for (int r = 0; r < kR; ++r) sums[t][r] += x_t * w[r];
        }
    }
    for (int t = 0; t < kT; ++t) {
        for (int r = 0; r < kR; ++r) {
            float total = sum(sums[t][r]);
            for (int64_t rest = i; rest < I; ++rest) total += x[t * I + rest] * number(weight[r * I + rest]);
            y[t * stride + r] = total;
        }
    }
}

// All tokens against kR rows: weights are read once, the rows of x come from the cache.
template <int kR, typename Number>
void dot_rows(const float* x, const Number* weight, float* y, int64_t T, int64_t I, int64_t stride) {
    int64_t t = 0;
    for (; t + kTokens <= T; t += kTokens) {
        dot_block<kR, kTokens>(x + t * I, weight, y + t * stride, I, stride);
    }
    for (; t < T; ++t) dot_block<kR, 1>(x + t * I, weight, y + t * stride, I, stride);
}

// y = x weight^T      x (T, I), weight (O, I), y (T, O)
template <typename Number>
void multiply(const float* x, const Number* weight, float* y, int64_t T, int64_t O, int64_t I) {
    int64_t o = 0;
    for (; o + kRows <= O; o += kRows) dot_rows<kRows>(x, weight + o * I, y + o, T, I, O);
    for (; o < O; ++o) dot_rows<1>(x, weight + o * I, y + o, T, I, O);
}

void linear_bf16(const float* x, const uint16_t* weight, float* y, int64_t T, int64_t O, int64_t I) {
    for (int64_t t = 0; t < T; t += kTokenTile) {
        const int64_t count = T - t < kTokenTile ? T - t : kTokenTile;
        multiply(x + t * I, weight, y + t * O, count, O, I);
    }
}

void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t T, int64_t D) {
    for (int64_t t = 0; t < T; ++t) {
        const float* row = x + t * D;
        float square;
        dot_block<1, 1>(row, row, &square, D, 1);
        const float factor = 1.0f / sqrtf(square / static_cast<float>(D) + eps);
        for (int64_t d = 0; d < D; ++d) y[t * D + d] = row[d] * factor * weight[d];
    }
}

template <typename Number>
void expert(const float* x, FeedForward<Number> layer, Batch batch, float* scratch, float* y) {
    const int64_t D = layer.D, F = layer.F;
    float* const rows = scratch;                  // (kTokenTile, D)
    float* const answer = rows + kTokenTile * D;  // (kTokenTile, D)
    float* const gate = answer + kTokenTile * D;  // (kTokenTile, F)
    float* const up = gate + kTokenTile * F;      // (kTokenTile, F)

    for (int64_t start = 0; start < batch.count; start += kTokenTile) {
        const int64_t count = batch.count - start < kTokenTile ? batch.count - start : kTokenTile;
        for (int64_t m = 0; m < count; ++m) {
            memcpy(rows + m * D, x + batch.tokens[start + m] * D, D * sizeof(float));
        }
        multiply(rows, layer.gate_proj, gate, count, F, D);
        multiply(rows, layer.up_proj, up, count, F, D);
        for (int64_t i = 0; i < count * F; ++i) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
        multiply(gate, layer.down_proj, answer, count, D, F);
        for (int64_t m = 0; m < count; ++m) {
            float* const y_t = y + batch.tokens[start + m] * D;
            const float weight = batch.weights[start + m];
            for (int64_t d = 0; d < D; ++d) y_t[d] += weight * answer[m * D + d];
        }
    }
}

}  // namespace

const Operations operations = {rms_norm, linear_bf16, expert<float>, expert<uint16_t>};

}  // namespace araio::ARAIO_ISA
