#include "numbers.h"

#include <algorithm>
#include <cstring>

namespace araio::disk {
namespace {

// Numbers are looked at by the thousand, without a branch for each, which compilers turn into vectors.
constexpr int64_t kTogether = 4096;

template <typename Bits>
Bits load(const uint8_t* content, int64_t i) {
    Bits bits;
    std::memcpy(&bits, content + i * sizeof(Bits), sizeof(Bits));
    return bits;
}

template <typename Bits, typename IsBad>
int64_t find(const uint8_t* content, int64_t size, IsBad is_bad) {
    const int64_t count = size / static_cast<int64_t>(sizeof(Bits));
    for (int64_t begin = 0; begin < count; begin += kTogether) {
        const int64_t end = std::min(begin + kTogether, count);
        Bits bad = 0;
        for (int64_t i = begin; i < end; ++i)
            bad |= static_cast<Bits>(is_bad(load<Bits>(content, i)) ? 1 : 0);
        if (bad == 0) continue;
        for (int64_t i = begin; i < end; ++i) {
            if (is_bad(load<Bits>(content, i))) return i;
        }
    }
    return -1;
}

}  // namespace

// NaN and infinity have every bit of the exponent set; e4m3fn has NaN alone, all bits but the sign.
int64_t first_bad_number(const uint8_t* content, int64_t size, Check check) {
    switch (check) {
        case Check::kNone:
            return -1;
        case Check::kF32:
            return find<uint32_t>(content, size, [](uint32_t x) { return (x & 0x7F800000) == 0x7F800000; });
        case Check::kBf16:
            return find<uint16_t>(content, size, [](uint16_t x) { return (x & 0x7F80) == 0x7F80; });
        case Check::kF16:
            return find<uint16_t>(content, size, [](uint16_t x) { return (x & 0x7C00) == 0x7C00; });
        case Check::kFp8:
            return find<uint8_t>(content, size, [](uint8_t x) { return (x & 0x7F) == 0x7F; });
        case Check::kScale:
            // As integers, positive finite floats are 1 to 0x7F7FFFFF; 0 less 1 is the largest of all.
            return find<uint32_t>(content, size, [](uint32_t x) { return x - 1 >= 0x7F7FFFFF; });
    }
    return -1;
}

}  // namespace araio::disk
