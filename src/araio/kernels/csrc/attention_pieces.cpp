// Attention of a few queries, one a lane: scores by multiplying a number of every query with one of a key,
// sums of values by multiplying a weight with a vector of a value.
//
// Lanes do not mix and sums run over positions in order, so a query's answer does not depend on what else is
// in its batch.

#include <float.h>

#include "pieces.h"

namespace araio::ARAIO_ISA {
namespace {

// Queries and vectors of values whose sums stay in registers.
constexpr int kRows = 4;
constexpr int kVectors = kLanes == 16 ? 4 : 2;

template <int kWidth>
struct Narrow {
    typedef float Floats __attribute__((vector_size(kWidth * sizeof(float))));
};

// scores[p][lane] = q[lane] . keys[p] for kScoreRows rows of keys and the first kWidth lanes. Meanwhile the
// rows from `next` on are asked for, a line of each at a time: they would not arrive by themselves.
template <int kWidth, typename Number>
inline void score_block(const float* q, const float* const* keys, int64_t X, const Number* next,
                        int64_t stride, float* scores) {
    typedef typename Narrow<kWidth>::Floats Lanes;
    constexpr int64_t kNumbers = kLine / sizeof(Number);
    Lanes sums[kScoreRows] = {};
    for (int64_t start = 0; start < X; start += kNumbers) {
        for (int64_t p = 0; p < kScoreRows; ++p) __builtin_prefetch(next + p * stride + start, 0, 2);
        const int64_t stop = start + kNumbers < X ? start + kNumbers : X;
        for (int64_t x = start; x < stop; ++x) {
            Lanes q_x;
            memcpy(&q_x, q + x * kLanes, sizeof q_x);
            for (int64_t p = 0; p < kScoreRows; ++p) sums[p] += q_x * keys[p][x];
        }
    }
    for (int64_t p = 0; p < kScoreRows; ++p) memcpy(scores + p * kLanes, &sums[p], sizeof sums[p]);
}

// A key as floats: where it lies, or widened. Every number of it meets all queries, one at a time, so it is
// cheaper to widen them in vectors beforehand.
inline const float* floats_of(const float* key, int64_t, float*) { return key; }

inline const float* floats_of(const uint16_t* key, int64_t X, float* wide) {
    int64_t x = 0;
    for (; x + kLanes <= X; x += kLanes) store(load(key + x), wide + x);
    for (; x < X; ++x) wide[x] = number(key[x]);
    return wide;
}

// scores (count rounded up to kScoreRows, lanes); wide (kScoreRows, X)
template <int kWidth, typename Number>
void score(const float* q, const Positions<Number>& positions, float* scores, float* wide) {
    for (int64_t p = 0; p < positions.count; p += kScoreRows) {
        const float* keys[kScoreRows];
        for (int64_t i = 0; i < kScoreRows; ++i) {
            // Behind the last position its key again, for a score that nobody reads.
            const int64_t row = p + i < positions.count ? p + i : positions.count - 1;
            keys[i] =
                floats_of(positions.keys + row * positions.key_stride, positions.X, wide + i * positions.X);
        }
        const Number* const next = positions.keys + (p + kScoreRows) * positions.key_stride;
        score_block<kWidth>(q, keys, positions.X, next, positions.key_stride, scores + p * kLanes);
    }
}

// Few queries fill a narrower vector, of which the CPU may do more at a time.
template <typename Number>
void score(const Queries& queries, const Positions<Number>& positions, float* scores, float* wide) {
    if constexpr (kLanes > 8) {
        if (queries.count <= 8 && queries.count > 4) return score<8>(queries.q, positions, scores, wide);
    }
    if constexpr (kLanes > 4) {
        if (queries.count <= 4) return score<4>(queries.q, positions, scores, wide);
    }
    score<kLanes>(queries.q, positions, scores, wide);
}

// Scores of positions that a query does not see become -infinity.
void hide_future(const int64_t* seen, int64_t first, int64_t count, float* scores) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t hidden = seen[lane] > first ? seen[lane] - first : 0;
        for (int64_t p = hidden; p < count; ++p) scores[p * kLanes + lane] = -INFINITY;
    }
}

// mixed[r] += sum over p of weights[p][r] * values[p], for kR rows and kV vectors of each.
template <int kR, int kV, typename Number>
inline void mix_block(const float* weights, const Number* values, int64_t stride, int64_t count, float* mixed,
                      int64_t Y) {
    Floats sums[kR][kV];
    for (int r = 0; r < kR; ++r) {
        for (int v = 0; v < kV; ++v) sums[r][v] = load(mixed + r * Y + v * kLanes);
    }
    for (int64_t p = 0; p < count; ++p, weights += kLanes, values += stride) {
        Floats value[kV];
        for (int v = 0; v < kV; ++v) value[v] = load(values + v * kLanes);
        for (int r = 0; r < kR; ++r) {
            for (int v = 0; v < kV; ++v) sums[r][v] += weights[r] * value[v];
        }
    }
    for (int r = 0; r < kR; ++r) {
        for (int v = 0; v < kV; ++v) store(sums[r][v], mixed + r * Y + v * kLanes);
    }
}

template <int kR, typename Number>
void mix_rows(const float* weights, const Number* values, int64_t stride, int64_t count, float* mixed,
              int64_t Y) {
    int64_t y = 0;
    for (; y + kVectors * kLanes <= Y; y += kVectors * kLanes) {
        mix_block<kR, kVectors>(weights, values + y, stride, count, mixed + y, Y);
    }
    for (; y + kLanes <= Y; y += kLanes) {
        mix_block<kR, 1>(weights, values + y, stride, count, mixed + y, Y);
    }
    for (; y < Y; ++y) {
        for (int r = 0; r < kR; ++r) {
            float sum = mixed[r * Y + y];
            for (int64_t p = 0; p < count; ++p)
                sum += weights[p * kLanes + r] * number(values[p * stride + y]);
            mixed[r * Y + y] = sum;
        }
    }
}

template <typename Number>
void mix_values(const float* weights, int64_t rows, const Number* values, int64_t stride, int64_t count,
                float* mixed, int64_t Y) {
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows) {
        mix_rows<kRows>(weights + r, values, stride, count, mixed + r * Y, Y);
    }
    for (; r < rows; ++r) mix_rows<1>(weights + r, values, stride, count, mixed + r * Y, Y);
}

// Scores to weights, exp(score - largest), with the largest of these and of earlier ones; gives back what
// earlier sums have to be multiplied by.
Floats weigh(int64_t count, float* scores, float* sums) {
    const Floats before = load(sums);
    Floats largest = before;
    for (int64_t p = 0; p < count; ++p) {
        const Floats score = load(scores + p * kLanes);
        largest = score > largest ? score : largest;
    }
    const Floats factor = exp(before - largest);
    Floats total = load(sums + kLanes) * factor;
    for (int64_t p = 0; p < count; ++p) {
        const Floats weight = exp(load(scores + p * kLanes) - largest);
        store(weight, scores + p * kLanes);
        total += weight;
    }
    store(largest, sums);
    store(total, sums + kLanes);
    return factor;
}

template <typename Number>
void attend_to(const Queries& queries, const Positions<Number>& positions, float* scratch) {
    float* const weights = scratch + kScoreRows * positions.X;
    score(queries, positions, weights, scratch);
    hide_future(queries.seen, positions.first, positions.count, weights);
    const Floats factor = weigh(positions.count, weights, queries.sums);
    float* const mixed = queries.sums + 2 * kLanes;
    const int64_t Y = positions.Y;
    for (int64_t r = 0; r < queries.count; ++r) {
        for (int64_t y = 0; y < Y; ++y) mixed[r * Y + y] *= factor[r];
    }
    mix_values(weights, queries.count, positions.values, positions.value_stride, positions.count, mixed, Y);
}

}  // namespace

void attend(const Queries& queries, const Positions<float>& positions, float* scratch) {
    attend_to(queries, positions, scratch);
}

void attend_bf16(const Queries& queries, const Positions<uint16_t>& positions, float* scratch) {
    attend_to(queries, positions, scratch);
}

void no_sums(int64_t count, int64_t Y, float* sums) {
    store(Floats{} - FLT_MAX, sums);
    memset(sums + kLanes, 0, static_cast<size_t>(kLanes + count * Y) * sizeof(float));
}

void merge_sums(const float* more, int64_t count, int64_t Y, float* sums) {
    const Floats here = load(sums), there = load(more);
    const Floats largest = there > here ? there : here;
    const Floats keep = exp(here - largest), add = exp(there - largest);
    store(largest, sums);
    store(load(sums + kLanes) * keep + load(more + kLanes) * add, sums + kLanes);
    float* const mixed = sums + 2 * kLanes;
    const float* const others = more + 2 * kLanes;
    for (int64_t r = 0; r < count; ++r) {
        for (int64_t y = r * Y; y < (r + 1) * Y; ++y) mixed[y] = mixed[y] * keep[r] + others[y] * add[r];
    }
}

void average(const float* sums, int64_t count, int64_t Y, float* y, int64_t stride) {
    for (int64_t r = 0; r < count; ++r) {
        const float* const mixed = sums + 2 * kLanes + r * Y;
        const float factor = 1.0f / sums[kLanes + r];
        for (int64_t i = 0; i < Y; ++i) y[r * stride + i] = mixed[i] * factor;
    }
}

}  // namespace araio::ARAIO_ISA
