// A checksum is the remainder of a polynomial over GF(2), whose coefficients are the bits of the content. By
// tables
// ("slicing by 8", Kounavis and Berry, 2005) eight bytes take eight lookups. By carry-less products (Gopal et
// al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009) 16 bytes are
// folded onto those that follow: multiplied by the remainder of x^n, they weigh the same n bits further on.

#include "crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace araio::disk {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;

using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
    Tables tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
        tables[0][byte] = crc;
    }
    for (size_t k = 1; k < 8; ++k) {
        for (size_t byte = 0; byte < 256; ++byte) {
            const uint32_t before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
        }
    }
    return tables;
}

constexpr Tables kTables = make_tables();

// `state` is the checksum with all bits inverted, here and below.
uint32_t update(uint32_t state, const uint8_t* content, int64_t size) {
    for (; size >= 8; content += 8, size -= 8) {
        uint64_t word;
        std::memcpy(&word, content, 8);
        word ^= state;
        state = 0;
        for (size_t k = 0; k < 8; ++k) state ^= kTables[7 - k][word >> (8 * k) & 0xFF];
    }
    for (; size > 0; ++content, --size) state = (state >> 8) ^ kTables[0][(state ^ *content) & 0xFF];
    return state;
}

#if defined(__x86_64__)

__attribute__((target("pclmul"))) inline __m128i fold(__m128i from, __m128i powers, __m128i onto) {
    const __m128i low = _mm_clmulepi64_si128(from, powers, 0x00);
    const __m128i high = _mm_clmulepi64_si128(from, powers, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

inline __m128i load(const uint8_t* content) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(content));
}

// At least 64 bytes. Four strands hide how long a product takes.
__attribute__((target("pclmul"))) uint32_t update_by_products(uint32_t state, const uint8_t* content,
                                                              int64_t size) {
    const __m128i by_512 = _mm_set_epi64x(0x1C6E41596, 0x154442BD4);  // x^(512 - 32), x^(512 + 32), reflected
    const __m128i by_128 = _mm_set_epi64x(0x0CCAA009E, 0x1751997D0);  // x^(128 - 32), x^(128 + 32)
    __m128i a = _mm_xor_si128(load(content), _mm_cvtsi32_si128(static_cast<int>(state)));
    __m128i b = load(content + 16), c = load(content + 32), d = load(content + 48);
    for (content += 64, size -= 64; size >= 64; content += 64, size -= 64) {
        a = fold(a, by_512, load(content));
        b = fold(b, by_512, load(content + 16));
        c = fold(c, by_512, load(content + 32));
        d = fold(d, by_512, load(content + 48));
    }
    a = fold(fold(fold(a, by_128, b), by_128, c), by_128, d);
    for (; size >= 16; content += 16, size -= 16) a = fold(a, by_128, load(content));
    // What is left of all that is worth as much as these 16 bytes before the last few.
    uint8_t folded[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(folded), a);
    return update(update(0, folded, 16), content, size);
}

bool has_products() {
    static const bool has = __builtin_cpu_supports("pclmul");
    return has;
}

#endif

}  // namespace

uint32_t crc32_by_tables(uint32_t crc, const uint8_t* content, int64_t size) {
    return ~update(~crc, content, size);
}

uint32_t crc32(uint32_t crc, const uint8_t* content, int64_t size) {
#if defined(__x86_64__)
    if (size >= 64 && has_products()) return ~update_by_products(~crc, content, size);
#endif
    return crc32_by_tables(crc, content, size);
}

}  // namespace araio::disk
