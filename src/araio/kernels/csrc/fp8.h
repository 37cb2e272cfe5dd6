// e4m3 codes to floats, 64 at a time: sign, 4 bits of exponent (bias 7), 3 of mantissa, as DeepSeek ships
// them.
//
// As a float the bits of an e4m3 number are worth 2^-120 of it, subnormals too, so shifts and masks widen it.
// Half of that factor is given to the activations and half to the sums, so that neither leaves the range of
// floats. A vector of codes is taken as 32-bit lanes of four, and vector k of the floats holds each lane's
// code k: no byte moves to another lane. Activations are brought into the same order once per call.
#pragma once

#include "matrix.h"
#include "simd.h"

namespace araio::ARAIO_ISA {

constexpr int kFp8Vectors = kFp8Group / kLanes;

constexpr float kFp8Half = 0x1p60f;

// What codes are worth 2^-120 of:      codes (64,), out (64,) in the order that `to_fp8_order` makes
inline void read_fp8(const uint8_t* codes, Floats* out) {
    typedef int16_t Shorts __attribute__((vector_size(kLanes * sizeof(float))));
    constexpr auto kKept = static_cast<int32_t>(0x87F00000);
    for (int v = 0; v < kFp8Vectors; v += 4) {
        Shorts pairs;
        memcpy(&pairs, codes + v * kLanes, sizeof pairs);
        // The upper code of each pair, then the lower one: the sign stays on top, the rest moves down.
        const Ints odd = reinterpret_cast<Ints>(pairs >> 4), even = reinterpret_cast<Ints>(pairs << 8 >> 4);
        out[v] = reinterpret_cast<Floats>(even << 16 & kKept);
        out[v + 1] = reinterpret_cast<Floats>(odd << 16 & kKept);
        out[v + 2] = reinterpret_cast<Floats>(even & kKept);
        out[v + 3] = reinterpret_cast<Floats>(odd & kKept);
    }
}

// One group of numbers into that order, times `factor`.
inline void to_fp8_order(const float* x, float factor, float* values) {
    for (int v = 0; v < kFp8Vectors; v += 4, x += 4 * kLanes, values += 4 * kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) {
            for (int k = 0; k < 4; ++k) values[k * kLanes + lane] = x[4 * lane + k] * factor;
        }
    }
}

// And back into the order of its columns.
inline void from_fp8_order(const float* values, float factor, float* y) {
    for (int v = 0; v < kFp8Vectors; v += 4, values += 4 * kLanes, y += 4 * kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) {
            for (int k = 0; k < 4; ++k) y[4 * lane + k] = values[k * kLanes + lane] * factor;
        }
    }
}

}  // namespace araio::ARAIO_ISA
