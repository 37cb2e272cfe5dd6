// Products with q8 and q4: tiles of 16 rows against rows of integers, block after block.
//
// `y = sum over blocks of (integer dot) * (weight scale * activation scale)`, added in the order of the
// blocks: a token's answer does not depend on what else is in its batch.

#include "tiles.h"

#include "pieces.h"

namespace araio::ARAIO_ISA {
namespace {

// One tile against kT tokens; `is_new` if nothing has read the tile before.
template <int kBits, int kT>
void multiply_tile(const uint8_t* data, const uint16_t* scale, bool is_new, const Activations& x,
                   const int64_t* tokens, int64_t rows, float* y, int64_t stride) {
    const int8_t* integers[kT];
    const float* scales[kT];
    const int32_t* sums[kT];
    PerRow totals[kT];
    for (int t = 0; t < kT; ++t) {
        integers[t] = x.integers + tokens[t] * x.blocks * kBlockColumns;
        scales[t] = x.scales + tokens[t] * x.blocks;
        sums[t] = x.sums + tokens[t] * x.blocks;
        totals[t] = PerRow::zero();
    }
    for (int64_t b = 0; b < x.blocks; ++b) {
        if (is_new) ask_for_block<kBits>(data, scale, b + kAhead / kBlockBytes<kBits>);
        const Block<kBits> block(data + b * kBlockBytes<kBits>);
        const PerRow row_scale = PerRow::halves(scale + b * kTileRows);
        for (int t = 0; t < kT; ++t) {
            add_block(block, integers[t] + b * kBlockColumns, sums[t][b], row_scale, scales[t][b], totals[t]);
        }
    }
    for (int t = 0; t < kT; ++t) {
        float out[kTileRows];
        totals[t].store(out);
        memcpy(y + t * stride, out, static_cast<size_t>(rows) * sizeof(float));
    }
}

// One tile against all tokens, kT at a time and the rest in smaller groups.
template <int kBits, int kT, int... kSmaller>
void multiply_tokens(const uint8_t* data, const uint16_t* scale, const Activations& x, const int64_t* tokens,
                     int64_t first, int64_t count, int64_t rows, float* y, int64_t stride) {
    for (; first + kT <= count; first += kT) {
        int64_t chosen[kT];
        for (int t = 0; t < kT; ++t) chosen[t] = tokens ? tokens[first + t] : first + t;
        multiply_tile<kBits, kT>(data, scale, first == 0, x, chosen, rows, y + first * stride, stride);
    }
    if constexpr (sizeof...(kSmaller) > 0) {
        multiply_tokens<kBits, kSmaller...>(data, scale, x, tokens, first, count, rows, y, stride);
    }
}

template <int kBits>
void multiply(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count, int64_t begin,
              int64_t end, float* y, int64_t stride) {
    const auto* const data = static_cast<const uint8_t*>(weight.data);
    const auto* const scale = static_cast<const uint16_t*>(weight.scale);
    for (int64_t row = begin; row < end; row += kTileRows) {
        const int64_t block = row / kTileRows * x.blocks;
        const int64_t rows = end - row < kTileRows ? end - row : kTileRows;
        const uint8_t* const tile = data + block * kBlockBytes<kBits>;
        const uint16_t* const tile_scale = scale + block * kTileRows;
        float* const out = y + row - begin;
        // Tokens that share a block once it is unpacked, as many as have room for their sums in registers.
        if constexpr (kLanes == 16) {
            multiply_tokens<kBits, 12, 6, 3, 2, 1>(tile, tile_scale, x, tokens, 0, count, rows, out, stride);
        } else {
            multiply_tokens<kBits, 4, 2, 1>(tile, tile_scale, x, tokens, 0, count, rows, out, stride);
        }
    }
}

constexpr float kMost = 127;

// One block of up to 32 numbers. A number that is not finite makes the scale NaN, and so the answer.
void block_to_integers(const float* x, int64_t count, int8_t* integers, float* scale, int32_t* sum) {
    float padded[kBlockColumns] = {};
    memcpy(padded, x, static_cast<size_t>(count) * sizeof(float));
    float largest[kLanes] = {};
    int32_t is_finite = 1;
    for (int64_t i = 0; i < kBlockColumns; i += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
            const float magnitude = fabsf(padded[i + lane]);
            is_finite &= magnitude < INFINITY;
            largest[lane] = largest[lane] > magnitude ? largest[lane] : magnitude;
        }
    }
    float most = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) most = largest[lane] > most ? largest[lane] : most;
    const float step = is_finite ? most / kMost : NAN;
    *scale = step;
    *sum = 0;
    if (!(step > 0)) {
        memset(integers, 0, kBlockColumns);
        return;
    }
    int32_t total = 0;
    for (int64_t i = 0; i < kBlockColumns; ++i) {
        // A subnormal step is rounded so far that a quotient can exceed what it was made for.
        const float quotient = padded[i] / step;
        const float clipped = quotient > kMost ? kMost : quotient < -kMost ? -kMost : quotient;
        const auto integer = static_cast<int32_t>(rintf(clipped));
        integers[i] = static_cast<int8_t>(integer);
        total += integer;
    }
    *sum = total;
}

}  // namespace

void multiply_q8(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count,
                 int64_t begin, int64_t end, float* y, int64_t stride) {
    multiply<8>(weight, x, tokens, count, begin, end, y, stride);
}

void multiply_q4(const Matrix& weight, const Activations& x, const int64_t* tokens, int64_t count,
                 int64_t begin, int64_t end, float* y, int64_t stride) {
    multiply<4>(weight, x, tokens, count, begin, end, y, stride);
}

void to_integers(const float* x, int64_t T, int64_t I, int8_t* integers, float* scales, int32_t* sums) {
    const int64_t blocks = ceil_div(I, kBlockColumns);
    for (int64_t t = 0; t < T; ++t) {
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t start = b * kBlockColumns, at = t * blocks + b;
            const int64_t count = I - start < kBlockColumns ? I - start : kBlockColumns;
            block_to_integers(x + t * I + start, count, integers + at * kBlockColumns, scales + at,
                              sums + at);
        }
    }
}

}  // namespace araio::ARAIO_ISA
