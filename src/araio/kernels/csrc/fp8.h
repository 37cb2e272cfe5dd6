// e4m3 codes to floats, 64 at a time: sign, 4 bits of exponent (bias 7), 3 of mantissa, as DeepSeek ships
// them.
//
// A vector width widens codes in the order that is cheapest for it and says so: lane i of vector v holds code
// `fp8_source(v * kLanes + i)` of the group. Activations are brought into the same order once per call.
#pragma once

#include "matrix.h"
#include "simd.h"

namespace araio::ARAIO_ISA {

constexpr int kFp8Vectors = kFp8Group / kLanes;

#if ARAIO_LANES == 16

// Every e4m3 value is a bfloat16, so the two bytes of that are looked up, 64 codes at once.
struct Fp8Tables {
    uint8_t low[128], high[128];
};

constexpr Fp8Tables make_fp8_tables() {
    Fp8Tables tables = {};
    for (int code = 0; code < 128; ++code) {
        int exponent = code >> 3, mantissa = code & 7;
        if (exponent == 0 && mantissa != 0) {  // a subnormal is a normal bfloat16
            for (exponent = 1; mantissa < 8; mantissa *= 2) --exponent;
            mantissa &= 7;
        }
        const bool is_zero = code == 0, is_nan = code == 127;
        const int bits = is_zero ? 0 : is_nan ? 0x7FC0 : (exponent + 120) << 7 | mantissa << 4;
        tables.low[code] = static_cast<uint8_t>(bits & 255);
        tables.high[code] = static_cast<uint8_t>(bits >> 8);
    }
    return tables;
}

constexpr Fp8Tables kFp8 = make_fp8_tables();

class Fp8Reader {
  public:
    void operator()(const uint8_t* codes, Floats* out) const {
        const __m512i code = _mm512_loadu_si512(codes);
        const __m512i low = _mm512_permutex2var_epi8(low_[0], code, low_[1]);
        const __m512i unsigned_high = _mm512_permutex2var_epi8(high_[0], code, high_[1]);
        // high | (code & sign)
        const __m512i high = _mm512_ternarylogic_epi32(unsigned_high, code, sign_, 0xF8);
        const __m512i first = _mm512_unpacklo_epi8(low, high), second = _mm512_unpackhi_epi8(low, high);
        out[0] = reinterpret_cast<Floats>(_mm512_slli_epi32(first, 16));
        out[1] = reinterpret_cast<Floats>(_mm512_and_si512(first, upper_));
        out[2] = reinterpret_cast<Floats>(_mm512_slli_epi32(second, 16));
        out[3] = reinterpret_cast<Floats>(_mm512_and_si512(second, upper_));
    }

  private:
    __m512i low_[2] = {_mm512_loadu_si512(kFp8.low), _mm512_loadu_si512(kFp8.low + 64)};
    __m512i high_[2] = {_mm512_loadu_si512(kFp8.high), _mm512_loadu_si512(kFp8.high + 64)};
    __m512i sign_ = _mm512_set1_epi8(-128);
    __m512i upper_ = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
};

// What the unpacking above does to the order: even and odd bytes of the halves of each 16 bytes.
constexpr int64_t fp8_source(int64_t place) {
    const int64_t vector = place / 16, quarter = place % 16 / 4, pair = place % 4;
    return 16 * quarter + 8 * (vector / 2) + 2 * pair + vector % 2;
}

// One group of activations into that order.
inline void to_fp8_order(const float* x, float* values) {
    const __m512i first = _mm512_setr_epi32(0, 2, 4, 6, 16, 18, 20, 22, 0, 2, 4, 6, 16, 18, 20, 22);
    for (int v = 0; v < kFp8Vectors; ++v) {
        const __m512i index = _mm512_add_epi32(first, _mm512_set1_epi32(8 * (v / 2) + v % 2));
        const __m512 front = _mm512_permutex2var_ps(_mm512_loadu_ps(x), index, _mm512_loadu_ps(x + 16));
        const __m512 back = _mm512_permutex2var_ps(_mm512_loadu_ps(x + 32), index, _mm512_loadu_ps(x + 48));
        _mm512_storeu_ps(values + 16 * v, _mm512_mask_blend_ps(0xFF00, front, back));
    }
}

// And a group of numbers back into the order of its columns.
inline void from_fp8_order(const Floats* wide, float* y) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 0, 16, 1, 17, 2, 18, 3, 19);
    const auto both = [&](int v, __m512i index) {
        const auto even = reinterpret_cast<__m512>(wide[v]), odd = reinterpret_cast<__m512>(wide[v + 1]);
        return _mm512_permutex2var_ps(even, index, odd);
    };
    for (int quarter = 0; quarter < 4; ++quarter) {
        const __m512i index = _mm512_add_epi32(first, _mm512_set1_epi32(4 * quarter));
        _mm512_storeu_ps(y + 16 * quarter, _mm512_mask_blend_ps(0xFF00, both(0, index), both(2, index)));
    }
}

constexpr float kFp8Factor = 1.0f;

#elif ARAIO_LANES == 8

// As a half the bits of an e4m3 number are worth 2^-8 of it, subnormals too.
struct Fp8Reader {
    void operator()(const uint8_t* codes, Floats* out) const {
        const __m128i most = _mm_set1_epi16(0x3F80), top = _mm_set1_epi16(static_cast<short>(0x8000));
        for (int v = 0; v < kFp8Vectors; ++v) {
            const auto* const eight = reinterpret_cast<const __m128i*>(codes + 8 * v);
            const __m128i word = _mm_cvtepu8_epi16(_mm_loadl_epi64(eight));
            const __m128i magnitude = _mm_and_si128(_mm_slli_epi16(word, 7), most);
            const __m128i sign = _mm_and_si128(_mm_slli_epi16(word, 8), top);
            out[v] = reinterpret_cast<Floats>(_mm256_cvtph_ps(_mm_or_si128(magnitude, sign)));
        }
    }
};

constexpr int64_t fp8_source(int64_t place) { return place; }

inline void to_fp8_order(const float* x, float* values) { memcpy(values, x, kFp8Group * sizeof(float)); }
inline void from_fp8_order(const Floats* wide, float* y) { memcpy(y, wide, kFp8Group * sizeof(float)); }

constexpr float kFp8Factor = 256.0f;

#else

// As a float the bits of an e4m3 number are worth 2^-120 of it, subnormals too.
struct Fp8Reader {
    void operator()(const uint8_t* codes, Floats* out) const {
        for (int64_t place = 0; place < kFp8Group; ++place) {
            const uint32_t code = codes[place];
            const uint32_t bits = (code & 0x80) << 24 | (code & 0x7F) << 20;
            float value;
            memcpy(&value, &bits, sizeof value);
            out[place / kLanes][place % kLanes] = value * 0x1p120f;
        }
    }
};

constexpr int64_t fp8_source(int64_t place) { return place; }

inline void to_fp8_order(const float* x, float* values) { memcpy(values, x, kFp8Group * sizeof(float)); }
inline void from_fp8_order(const Floats* wide, float* y) { memcpy(y, wide, kFp8Group * sizeof(float)); }

constexpr float kFp8Factor = 1.0f;

#endif

}  // namespace araio::ARAIO_ISA
