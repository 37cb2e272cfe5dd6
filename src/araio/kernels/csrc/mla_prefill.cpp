// The expanded form, head by head: keys and values of a page of positions are made once, for all queries of
// its sequence. Working memory is that of one page, however many positions there are.
//
// Pages begin at fixed positions, so an answer does not depend on which other queries the call has.

#include <algorithm>

#include "attention.h"
#include "thread_pool.h"

namespace araio {
namespace {

static_assert(kPage <= kTokenTile, "a page is one piece of work for `multiply`");

// The queries of one sequence and head, in groups of `operations.lanes`.
class Head {
  public:
    Head(const Operations& operations, const Attention& attention, const Sequence& sequence, int64_t head)
        : operations_(operations),
          a_(attention),
          sequence_(sequence),
          head_(head),
          lanes_(operations.lanes),
          groups_(ceil_div(sequence.T, lanes_)) {}

    void run(float* y) const;

  private:
    int64_t X() const { return a_.N + a_.R; }
    int64_t count_of(int64_t group) const { return std::min(lanes_, sequence_.T - group * lanes_); }

    void gather_queries(float* q, int64_t* seen) const;
    void expand(const Matrix& weight, int64_t page, int64_t count, float* keys, float* values) const;

    const Operations& operations_;
    const Attention& a_;
    const Sequence& sequence_;
    int64_t head_, lanes_, groups_;
};

// q (groups, X, lanes), scaled, and seen (groups, lanes); lanes behind the last query repeat it.
void Head::gather_queries(float* q, int64_t* seen) const {
    for (int64_t row = 0; row < groups_ * lanes_; ++row) {
        const int64_t t = sequence_.first + std::min(row, sequence_.T - 1);
        float* const lane = q + row / lanes_ * X() * lanes_ + row % lanes_;
        for (int64_t n = 0; n < a_.N; ++n) lane[n * lanes_] = a_.q_nope.at(t, head_, n) * a_.scale;
        for (int64_t r = 0; r < a_.R; ++r) lane[(a_.N + r) * lanes_] = a_.q_pe.at(t, head_, r) * a_.scale;
        seen[row] = sequence_.seen(t);
    }
}

// keys (count, X) and values (count, V) of the first positions of a page.     weight (N + V, C) float32
void Head::expand(const Matrix& weight, int64_t page, int64_t count, float* keys, float* values) const {
    static thread_local Scratch<float> wide;
    const auto multiply = operations_.multiply[static_cast<int>(Codec::f32)];
    const int64_t stride = a_.C + a_.R;
    const bool is_bf16 = a_.codec == Codec::bf16;
    const void* const stored = is_bf16 ? static_cast<const void*>(a_.page<uint16_t>(sequence_, page))
                                       : a_.page<float>(sequence_, page);
    const Matrix rows = {a_.codec, kPage, stride, stored, nullptr, 0, 0};
    const float* const latents = float_rows(operations_, rows, 0, count, wide);
    const Activations x = {latents, nullptr, nullptr, nullptr, stride, 0};
    multiply(weight, x, nullptr, count, 0, a_.N, keys, X());
    for (int64_t p = 0; p < count; ++p) {
        std::copy_n(latents + p * stride + a_.C, a_.R, keys + p * X() + a_.N);
    }
    multiply(weight, x, nullptr, count, a_.N, a_.N + a_.V, values, a_.V);
}

void Head::run(float* y) const {
    static thread_local Scratch<float> wide, q_scratch, sums_scratch, keys_scratch, values_scratch, scratch;
    static thread_local Scratch<int64_t> seen_scratch;
    const int64_t size = sums_size(lanes_, a_.V), rows = a_.N + a_.V;
    float* const q = q_scratch.take(groups_ * X() * lanes_);
    float* const sums = sums_scratch.take(groups_ * size);
    float* const keys = keys_scratch.take(kPage * X());
    float* const values = values_scratch.take(kPage * a_.V);
    int64_t* const seen = seen_scratch.take(groups_ * lanes_);
    const float* const w = float_rows(operations_, *a_.kv_b_proj, head_ * rows, (head_ + 1) * rows, wide);
    const Matrix weight = {Codec::f32, rows, a_.C, w, nullptr, 0, 0};

    gather_queries(q, seen);
    for (int64_t group = 0; group < groups_; ++group) {
        operations_.no_sums(count_of(group), a_.V, sums + group * size);
    }
    for (int64_t start = 0; start < sequence_.S; start += kPage) {
        const int64_t count = std::min(kPage, sequence_.S - start);
        expand(weight, start / kPage, count, keys, values);
        for (int64_t group = 0; group < groups_; ++group) {
            const int64_t* const group_seen = seen + group * lanes_;
            const int64_t visible = std::min(count, group_seen[lanes_ - 1] - start);
            if (visible <= 0) continue;
            operations_.attend({count_of(group), q + group * X() * lanes_, group_seen, sums + group * size},
                               {start, visible, keys, X(), X(), values, a_.V, a_.V},
                               scratch.take(attend_scratch(lanes_, kPage, X())));
        }
    }
    for (int64_t group = 0; group < groups_; ++group) {
        const int64_t first = sequence_.first + group * lanes_;
        operations_.average(sums + group * size, count_of(group), a_.V, y + (first * a_.H + head_) * a_.V,
                            a_.H * a_.V);
    }
}

}  // namespace

void mla_prefill(const Operations& operations, const Attention& attention, float* y) {
    const Attention& a = attention;
    int64_t products = 0;
    for (const Sequence& sequence : a.sequences) products += sequence.S * (a.C + sequence.T);
    const auto items = static_cast<int64_t>(a.sequences.size()) * a.H;
    ThreadPool::shared().run(items, products * a.H * (a.N + a.V), [&](int64_t item) {
        Head(operations, a, a.sequences[static_cast<size_t>(item / a.H)], item % a.H).run(y);
    });
}

}  // namespace araio
