// What attention keeps of a position, written to the cache.
#pragma once

#include "matrix.h"

namespace araio {

// pages[slots[t]] = [c_kv[t], k_pe[t]], rounded to the nearest where the codec is bf16, ties to even.
//   c_kv (T, C), k_pe (T, R); pages (positions, C + R) in f32 or bf16
void store(const float* c_kv, const float* k_pe, int64_t T, int64_t C, int64_t R, const int64_t* slots,
           Codec codec, void* pages);

}  // namespace araio
