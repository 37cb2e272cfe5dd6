#include "latents.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace araio {
namespace {

uint16_t to_bf16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    // Rounding could carry the bits of a NaN into those of infinity, or of zero.
    if (std::isnan(value)) return static_cast<uint16_t>(word >> 16 | 0x40);
    return static_cast<uint16_t>((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}

void copy(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }
void copy(const float* from, int64_t count, uint16_t* to) { std::transform(from, from + count, to, to_bf16); }

template <typename Number>
void store_as(const float* c_kv, const float* k_pe, int64_t T, int64_t C, int64_t R, const int64_t* slots,
              Number* pages) {
    for (int64_t t = 0; t < T; ++t) {
        Number* const latent = pages + slots[t] * (C + R);
        copy(c_kv + t * C, C, latent);
        copy(k_pe + t * R, R, latent + C);
    }
}

}  // namespace

void store(const float* c_kv, const float* k_pe, int64_t T, int64_t C, int64_t R, const int64_t* slots,
           Codec codec, void* pages) {
    codec == Codec::bf16 ? store_as(c_kv, k_pe, T, C, R, slots, static_cast<uint16_t*>(pages))
                         : store_as(c_kv, k_pe, T, C, R, slots, static_cast<float*>(pages));
}

}  // namespace araio
