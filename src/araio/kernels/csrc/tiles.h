// Sixteen rows against one block of 32 activations, in integers: the heart of q8 and q4, per vector width.
//
// Weights are made unsigned (q4 is stored so, q8 gets 128 added) because the instructions multiply unsigned
// by signed bytes; what that adds, offset * sum(x), is taken off where the sum begins. Every sum is exact.
#pragma once

#include "matrix.h"
#include "simd.h"

namespace araio::ARAIO_ISA {

template <int kBits>
constexpr int32_t kOffset = kBits == 4 ? 8 : 128;

template <int kBits>
constexpr int64_t kBlockBytes = kTileRows * kBlockColumns * kBits / 8;

// Asks for the scales of block b, which come too slowly for the processor to see a stream in them, and for
// q4's numbers; those of q8 it fetches better by itself. docs/lab-notes.md has what this is worth.
template <int kBits>
ARAIO_ASKS void ask_for_block(const uint8_t* data, const uint16_t* scale, int64_t b) {
    if constexpr (kBits == 4) {
        for (int64_t i = 0; i < kBlockBytes<kBits>; i += kLine) ask_for(data + b * kBlockBytes<kBits> + i);
    }
    ask_for(scale + b * kTileRows);
}

#if ARAIO_LANES == 16

// The block's integers: 16 rows x 4 columns in each register.
template <int kBits>
struct Block {
    __m512i columns[8];

    explicit Block(const uint8_t* data) {
        if constexpr (kBits == 4) {
            const __m512i nibble = _mm512_set1_epi8(15);
            for (int j = 0; j < 4; ++j) {
                const __m512i both = _mm512_loadu_si512(data + 64 * j);
                columns[j] = _mm512_and_si512(both, nibble);
                columns[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
            }
        } else {
            const __m512i sign = _mm512_set1_epi8(-128);
            for (int j = 0; j < 8; ++j) {
                columns[j] = _mm512_xor_si512(_mm512_loadu_si512(data + 64 * j), sign);
                // Otherwise the compiler does it anew for every token.
                __asm__("" : "+v"(columns[j]));
            }
        }
    }
};

// 16 floats, one a row of the tile.
struct PerRow {
    __m512 values;

    static PerRow zero() { return {_mm512_setzero_ps()}; }
    static PerRow halves(const uint16_t* from) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
    }
    void store(float* to) const { _mm512_storeu_ps(to, values); }
};

// sum += (block . x) * (scale * x_scale), x 32 integers whose sum is x_sum
template <int kBits>
inline void add_block(const Block<kBits>& block, const int8_t* x, int32_t x_sum, PerRow scale, float x_scale,
                      PerRow& sum) {
    __m512i dot = _mm512_set1_epi32(-kOffset<kBits> * x_sum), second = _mm512_setzero_si512();
    for (int j = 0; j < 4; ++j) {
        int32_t low, high;
        memcpy(&low, x + 4 * j, 4);
        memcpy(&high, x + 16 + 4 * j, 4);
        dot = _mm512_dpbusd_epi32(dot, block.columns[j], _mm512_set1_epi32(low));
        second = _mm512_dpbusd_epi32(second, block.columns[j + 4], _mm512_set1_epi32(high));
    }
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_add_epi32(dot, second));
    sum.values = _mm512_fmadd_ps(exact, _mm512_mul_ps(scale.values, _mm512_set1_ps(x_scale)), sum.values);
}

#elif ARAIO_LANES == 8

// The block as it is stored: unpacked it would not fit into the registers.
template <int kBits>
struct Block {
    const uint8_t* data;
    explicit Block(const uint8_t* from) : data(from) {}
};

struct PerRow {
    __m256 values[2];

    static PerRow zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
    static PerRow halves(const uint16_t* from) {
        const auto* const eight = reinterpret_cast<const __m128i*>(from);
        return {{_mm256_cvtph_ps(_mm_loadu_si128(eight)), _mm256_cvtph_ps(_mm_loadu_si128(eight + 1))}};
    }
    void store(float* to) const {
        _mm256_storeu_ps(to, values[0]);
        _mm256_storeu_ps(to + 8, values[1]);
    }
};

inline __m256i four_of(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

inline __m256i load_integers(const uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// Eight rows. Sixteen products of a nibble and an integer, each at most 15 * 127, fit into 16 bits.
inline __m256i dot_q4(const uint8_t* data, const int8_t* x) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i sums = _mm256_setzero_si256();
    for (int j = 0; j < 4; ++j) {
        const __m256i both = load_integers(data + 64 * j);
        const __m256i low = _mm256_and_si256(both, nibble);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(low, four_of(x + 4 * j)));
        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(high, four_of(x + 16 + 4 * j)));
    }
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

// Eight rows. Magnitudes against signed activations: a pair of products, at most 2 * 127 * 127, fits into 16
// bits, which with 128 added to the weight it would not.
inline __m256i dot_q8(const uint8_t* data, const int8_t* x) {
    __m256i sums = _mm256_setzero_si256();
    for (int j = 0; j < 8; ++j) {
        const __m256i weight = load_integers(data + 64 * j);
        const __m256i signed_x = _mm256_sign_epi8(four_of(x + 4 * j), weight);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weight), signed_x);
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return sums;
}

template <int kBits>
inline void add_block(const Block<kBits>& block, const int8_t* x, int32_t x_sum, const PerRow& scale,
                      float x_scale, PerRow& sum) {
    for (int half = 0; half < 2; ++half) {
        __m256i dot;
        if constexpr (kBits == 4) {
            dot = _mm256_sub_epi32(dot_q4(block.data + 32 * half, x), _mm256_set1_epi32(8 * x_sum));
        } else {
            dot = dot_q8(block.data + 32 * half, x);
        }
        const __m256 factor = _mm256_mul_ps(scale.values[half], _mm256_set1_ps(x_scale));
        sum.values[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, sum.values[half]);
    }
}

#else

// Plain loops, the twin that the others are read against.
template <int kBits>
struct Block {
    int8_t columns[8][kTileRows][4];

    explicit Block(const uint8_t* data) {
        if constexpr (kBits == 4) {
            for (int64_t i = 0; i < kBlockBytes<4>; ++i) {
                (&columns[0][0][0])[i] = static_cast<int8_t>((data[i] & 15) - 8);
                (&columns[4][0][0])[i] = static_cast<int8_t>((data[i] >> 4) - 8);
            }
        } else {
            memcpy(columns, data, sizeof columns);
        }
    }
};

struct PerRow {
    float values[kTileRows];

    static PerRow zero() { return {}; }
    static PerRow halves(const uint16_t* from) {
        PerRow rows;
        for (int r = 0; r < kTileRows; ++r) rows.values[r] = half_value(from[r]);
        return rows;
    }
    void store(float* to) const { memcpy(to, values, sizeof values); }
};

template <int kBits>
inline void add_block(const Block<kBits>& block, const int8_t* x, int32_t, const PerRow& scale, float x_scale,
                      PerRow& sum) {
    for (int r = 0; r < kTileRows; ++r) {
        int32_t dot = 0;
        for (int j = 0; j < 8; ++j) {
            for (int c = 0; c < 4; ++c) dot += block.columns[j][r][c] * x[4 * j + c];
        }
        sum.values[r] += static_cast<float>(dot) * (scale.values[r] * x_scale);
    }
}

#endif

}  // namespace araio::ARAIO_ISA
