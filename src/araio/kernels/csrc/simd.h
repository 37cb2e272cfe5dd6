// Vectors of the instruction set that a file is compiled for: ARAIO_ISA names the namespace, ARAIO_LANES the
// floats in a vector. Only what several files share.
//
// Only C headers are included by what is compiled for an instruction set, and headers of ours whose functions
// are static or always inlined. An inline function of the C++ library compiled for AVX-512 could be the copy
// that the linker keeps for everyone, and a lesser CPU would stop on it.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if ARAIO_LANES > 4
#include <immintrin.h>
#endif

namespace araio::ARAIO_ISA {

constexpr int64_t kLanes = ARAIO_LANES;

typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t))));

constexpr int64_t kLine = 64;  // bytes of a cache line

// How far ahead a stream of weights is asked for, in bytes: farther than the processor does by itself.
constexpr int64_t kAhead = 4096;

// For functions that only ask for memory: GCC takes a call of them for one without effect, and drops it.
#define ARAIO_ASKS __attribute__((always_inline)) inline

// Asks for the line at an address, which need not be one's own. A weight is read once, so it need not
// displace what lies in the larger caches.
ARAIO_ASKS void ask_for(const void* address) { __builtin_prefetch(address, 0, 0); }

// The address so many bytes behind another.
inline const void* after(const void* address, int64_t bytes) {
    return static_cast<const uint8_t*>(address) + bytes;
}

inline float number(float value) { return value; }

// A bfloat16 is the upper half of a float32.
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

// GCC splits the same written with vector types into halves and joins them again, at four times the cost.
inline Floats load(const uint16_t* from) {
#if ARAIO_LANES == 16
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return reinterpret_cast<Floats>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif ARAIO_LANES == 8
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return reinterpret_cast<Floats>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#else
    Floats values;
    for (int lane = 0; lane < kLanes; ++lane) values[lane] = number(from[lane]);
    return values;
#endif
}

inline void store(Floats values, float* to) { memcpy(to, &values, sizeof values); }

typedef float Quad __attribute__((vector_size(16)));

// The upper half of a vector is added to the lower one until four numbers are left.
inline Quad fold(Floats values) {
#if ARAIO_LANES == 16
    const __m512 all = reinterpret_cast<__m512>(values);
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return reinterpret_cast<Quad>(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif ARAIO_LANES == 8
    const __m256 half = reinterpret_cast<__m256>(values);
    return reinterpret_cast<Quad>(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#else
    return values;
#endif
}

// Half of two vectors, their numbers in turn. Compilers make one instruction of it.
inline Quad front_pairs(Quad a, Quad b) { return Quad{a[0], b[0], a[1], b[1]}; }
inline Quad back_pairs(Quad a, Quad b) { return Quad{a[2], b[2], a[3], b[3]}; }

// The sum of each of four vectors; a sum's terms are added as in `sum`, so both give the same bits.
inline Quad sum_four(const Floats* values) {
    const Quad a = fold(values[0]), b = fold(values[1]), c = fold(values[2]), d = fold(values[3]);
    const Quad ab = front_pairs(a, b) + back_pairs(a, b), cd = front_pairs(c, d) + back_pairs(c, d);
    return Quad{ab[0], ab[1], cd[0], cd[1]} + Quad{ab[2], ab[3], cd[2], cd[3]};
}

inline float sum(Floats values) {
    const Quad four = fold(values);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

// 2^n for n in -126..127
inline Floats power_of_two(Ints n) { return reinterpret_cast<Floats>((n + 127) << 23); }

// e^x, off by less than 2e-7 of it where it is a normal number. 0 and infinity where it leaves the range of
// floats, and at both infinities; NaN stays NaN.
inline Floats exp(Floats x) {
    // Behind these bounds the answer is 0 or infinite already. A comparison with NaN is false.
    x = x < -104.0f ? Floats{} - 104.0f : x;
    x = x > 89.0f ? Floats{} + 89.0f : x;
    // x = n * ln 2 + rest with |rest| <= ln 2 / 2. The sum with 1.5 * 2^23 has n in its last bits; ln 2 comes
    // in two parts, the first of which multiplies n exactly.
    const Floats shifted = x * 0x1.715476p+0f + 0x1.8p23f;
    const Floats n = shifted - 0x1.8p23f;
    const Floats rest = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    // The Taylor series up to rest^7 / 7!, whose next term is below 1e-8.
    Floats series = rest * (1.0f / 5040) + (1.0f / 720);
    series = series * rest + (1.0f / 120);
    series = series * rest + (1.0f / 24);
    series = series * rest + (1.0f / 6);
    series = series * rest + 0.5f;
    series = series * rest + 1.0f;
    series = series * rest + 1.0f;
    // In two steps, for 2^n alone may be too large or too small where the answer is not.
    const Ints power = reinterpret_cast<Ints>(shifted) - 0x4B400000;
    const Ints half = power >> 1;
    return series * power_of_two(half) * power_of_two(power - half);
}

// The value of a half-precision number.
inline float half_value(uint16_t bits) {
#if ARAIO_LANES > 4
    return _cvtsh_ss(bits);
#else
    const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                      : exponent == 0
                          ? ldexpf(static_cast<float>(mantissa), -24)
                          : ldexpf(static_cast<float>(mantissa + 1024), static_cast<int>(exponent) - 25);
    return bits >> 15 ? -magnitude : magnitude;
#endif
}

}  // namespace araio::ARAIO_ISA
