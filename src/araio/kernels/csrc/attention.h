// Multi-head latent attention on all threads, in two forms; ops.py has the formula.
#pragma once

#include <vector>

#include "matrix.h"
#include "operations.h"
#include "scratch.h"
#include "view.h"

namespace araio {

// Positions in a page of the latent cache. Both forms work on one page at a time.
constexpr int64_t kPage = 128;

// One sequence of a call: some of its queries, side by side, and the positions that they see.
struct Sequence {
    int64_t first, T;      // queries [first, first + T) of the call
    int64_t S;             // positions that the last of them sees
    const int64_t* table;  // (ceil_div(S, kPage)) where positions [i * kPage, (i + 1) * kPage) are

    // Positions that query t of the call sees.
    int64_t seen(int64_t t) const { return S - (first + T) + t + 1; }
};

// What one call is given.
struct Attention {
    int64_t T, H, N, R, V, C;
    View q_nope, q_pe;                // (T, H, N), (T, H, R)
    Codec codec;                      // of the pages, f32 or bf16
    const void* pages;                // (pages, kPage, C + R), those of a sequence anywhere among them
    std::vector<Sequence> sequences;  // of at least one query each
    const Matrix* kv_b_proj;          // (H * (N + V), C)
    float scale;

    // The latents of a run of kPage positions of a sequence (kPage, C + R).
    template <typename Number>
    const Number* page(const Sequence& sequence, int64_t run) const {
        return static_cast<const Number*>(pages) + sequence.table[run] * kPage * (C + R);
    }
};

// The absorbed form, for few queries.      y (T, H, V)
void mla_decode(const Operations& operations, const Attention& attention, float* y);

// The expanded form, for many.      y (T, H, V)
void mla_prefill(const Operations& operations, const Attention& attention, float* y);

// Rows [begin, end) of a matrix as float32: where they lie if they are stored so, else widened into scratch.
inline const float* float_rows(const Operations& operations, const Matrix& weight, int64_t begin, int64_t end,
                               Scratch<float>& scratch) {
    if (weight.codec == Codec::f32) return static_cast<const float*>(weight.data) + begin * weight.columns;
    float* const rows = scratch.take((end - begin) * weight.columns);
    operations.widen(weight, begin, end, rows);
    return rows;
}

}  // namespace araio
