// The absorbed form. Queries are brought into the space of the latents (w_uk^T q), attend to one page of
// positions after the other there, and what they found is brought back (w_uv).
//
// A row is one head's query of one token. Pages begin at fixed positions and are merged in their order, so an
// answer depends neither on the number of threads nor on the other rows of the step.

#include <algorithm>

#include "attention.h"
#include "thread_pool.h"

namespace araio {
namespace {

// Rows in work at a time, and numbers of their sums over single pages: 8 MiB, however long the context.
constexpr int64_t kRowsAtATime = 1024;
constexpr int64_t kPartialNumbers = 1 << 21;

// Numbers of kv_b_proj that are worth an item of work.
constexpr int64_t kNumbersPerItem = 1 << 15;

// Some rows of a matrix.
struct WeightRows {
    Matrix matrix;
    int64_t begin, end;
};

// Some tokens of a call, all heads of each; rows by token, then head, in groups of `operations.lanes`.
class Step {
  public:
    Step(const Operations& operations, const Attention& attention, int64_t first, int64_t tokens)
        : operations_(operations),
          a_(attention),
          first_(first),
          tokens_(tokens),
          rows_(tokens * attention.H),
          lanes_(operations.lanes),
          groups_(ceil_div(rows_, lanes_)) {}

    void run(float* y) const;

  private:
    int64_t X() const { return a_.C + a_.R; }
    int64_t rows_of(int64_t group) const { return std::min(lanes_, rows_ - group * lanes_); }
    // Positions that the rows of a group see, the first and the last of them.
    int64_t seen_by(int64_t row) const { return a_.seen(first_ + row / a_.H); }
    int64_t most_seen(int64_t group) const { return seen_by(group * lanes_ + rows_of(group) - 1); }

    WeightRows weights_of(int64_t head, int64_t begin, int64_t end, Scratch<float>& wide) const;
    void absorb_head(int64_t head, float* q) const;
    void attend_to_page(int64_t page, int64_t group, const float* q, float* sums) const;
    void expand_head(int64_t head, const float* mixed, int64_t width, float* y) const;
    void attend_to_pages(const float* q, float* sums) const;
    void expand(const float* mixed, float* y) const;
    template <typename Work>
    void for_heads(const Work& work) const;

    const Operations& operations_;
    const Attention& a_;
    int64_t first_, tokens_, rows_, lanes_, groups_;
};

// work(head) for every head, several of them in an item where they are small.
template <typename Work>
void Step::for_heads(const Work& work) const {
    const int64_t numbers = std::max<int64_t>(1, (a_.N + a_.V) / 2 * a_.C * tokens_);
    const int64_t step = ceil_div(kNumbersPerItem, numbers);
    ThreadPool::shared().run(ceil_div(a_.H, step), numbers * a_.H, [&](int64_t item) {
        const int64_t stop = std::min(a_.H, (item + 1) * step);
        for (int64_t head = item * step; head < stop; ++head) work(head);
    });
}

// Rows [begin, end) of one head, as they are stored. Heads that are no whole tiles of integers are widened.
WeightRows Step::weights_of(int64_t head, int64_t begin, int64_t end, Scratch<float>& wide) const {
    const int64_t top = head * (a_.N + a_.V);
    const bool is_tiled = a_.kv_b_proj->codec == Codec::q4 || a_.kv_b_proj->codec == Codec::q8;
    if (!is_tiled || (a_.N % kTileRows == 0 && a_.V % kTileRows == 0)) {
        return {*a_.kv_b_proj, top + begin, top + end};
    }
    const float* const rows = float_rows(operations_, *a_.kv_b_proj, top + begin, top + end, wide);
    return {{Codec::f32, end - begin, a_.C, rows, nullptr, 0, 0}, 0, end - begin};
}

// One head's queries in the space of the latents, w_uk^T q, scaled, to their lanes of q (groups, X, lanes).
void Step::absorb_head(int64_t head, float* q) const {
    static thread_local Scratch<float> wide, query_scratch, absorbed_scratch;
    float* const query = query_scratch.take(a_.N);
    float* const absorbed = absorbed_scratch.take(a_.C);
    const WeightRows w_uk = weights_of(head, 0, a_.N, wide);
    const auto add_rows = operations_.add_rows[static_cast<int>(w_uk.matrix.codec)];
    for (int64_t t = 0; t < tokens_; ++t) {
        for (int64_t n = 0; n < a_.N; ++n) query[n] = a_.q_nope.at(first_ + t, head, n);
        std::fill_n(absorbed, a_.C, 0.0f);
        add_rows(w_uk.matrix, w_uk.begin, w_uk.end, query, absorbed);
        const int64_t row = t * a_.H + head;
        float* const lane = q + row / lanes_ * X() * lanes_ + row % lanes_;
        for (int64_t c = 0; c < a_.C; ++c) lane[c * lanes_] = absorbed[c] * a_.scale;
        for (int64_t r = 0; r < a_.R; ++r)
            lane[(a_.C + r) * lanes_] = a_.q_pe.at(first_ + t, head, r) * a_.scale;
    }
}

// The sums of a group over one page, of which it sees a part.
void Step::attend_to_page(int64_t page, int64_t group, const float* q, float* sums) const {
    static thread_local Scratch<float> scratch;
    static thread_local Scratch<int64_t> seen_scratch;
    const int64_t start = page * kPage, count = std::min(kPage, most_seen(group) - start);
    int64_t* const seen = seen_scratch.take(lanes_);
    for (int64_t lane = 0; lane < lanes_; ++lane) {
        seen[lane] = lane < rows_of(group) ? seen_by(group * lanes_ + lane) : a_.S;
    }
    operations_.no_sums(a_.C, sums);
    const auto attend = [&](auto to_positions, const auto* latents) {
        to_positions({rows_of(group), q + group * X() * lanes_, seen, sums},
                     {start, count, latents, X(), X(), latents, a_.C, X()},
                     scratch.take(attend_scratch(lanes_, kPage, X())));
    };
    a_.latents.codec == Codec::bf16 ? attend(operations_.attend_bf16, a_.page<uint16_t>(page))
                                    : attend(operations_.attend, a_.page<float>(page));
}

// One head's answers, w_uv, from the mixed latents (rows, width) in the form that kv_b_proj is multiplied by.
void Step::expand_head(int64_t head, const float* mixed, int64_t width, float* y) const {
    static thread_local Scratch<float> wide;
    const WeightRows w_uv = weights_of(head, a_.N, a_.N + a_.V, wide);
    const Codec codec = w_uv.matrix.codec;
    const int64_t stride = a_.H * a_.V;
    float* const answers = y + first_ * stride + head * a_.V;
    const float* const found = mixed + head * width;
    if (codec == Codec::q4 || codec == Codec::q8) {
        for (int64_t t = 0; t < tokens_; ++t) {
            operations_.dot_tiles(w_uv.matrix, w_uv.begin, w_uv.end, found + t * a_.H * width,
                                  answers + t * stride);
        }
        return;
    }
    const Activations x = {found, nullptr, nullptr, nullptr, a_.H * width, 0};
    operations_.multiply[static_cast<int>(codec)](w_uv.matrix, x, nullptr, tokens_, w_uv.begin, w_uv.end,
                                                  answers, stride);
}

// The sums of all groups over all pages: some pages at a time, each by itself, then merged in their order.
void Step::attend_to_pages(const float* q, float* sums) const {
    static thread_local Scratch<float> scratch;
    ThreadPool& pool = ThreadPool::shared();
    const int64_t size = sums_size(lanes_, a_.C), pages = ceil_div(a_.seen(first_ + tokens_ - 1), kPage);
    const int64_t wave = std::min(pages, std::max<int64_t>(1, kPartialNumbers / (groups_ * size)));
    float* const partial = scratch.take(wave * groups_ * size);
    for (int64_t group = 0; group < groups_; ++group) operations_.no_sums(a_.C, sums + group * size);
    for (int64_t start = 0; start < pages; start += wave) {
        const int64_t count = std::min(wave, pages - start);
        pool.run(count * groups_, count * kPage * rows_ * (X() + a_.C), [&](int64_t item) {
            const int64_t page = start + item / groups_, group = item % groups_;
            if (most_seen(group) > page * kPage) attend_to_page(page, group, q, partial + item * size);
        });
        pool.run(groups_, count * groups_ * size, [&](int64_t group) {
            for (int64_t p = 0; p < count && most_seen(group) > (start + p) * kPage; ++p) {
                operations_.merge_sums(partial + (p * groups_ + group) * size, rows_of(group), a_.C,
                                       sums + group * size);
            }
        });
    }
}

// The answers of all heads from the mixed latents (rows, C).
void Step::expand(const float* mixed, float* y) const {
    static thread_local Scratch<float> scratch;
    if (a_.kv_b_proj->codec != Codec::fp8) {
        return for_heads([&](int64_t head) { expand_head(head, mixed, a_.C, y); });
    }
    const int64_t padded = ceil_div(a_.C, kFp8Group) * kFp8Group;
    float* const ordered = scratch.take(rows_ * padded);
    operations_.to_fp8_order(mixed, rows_, a_.C, ordered);
    for_heads([&](int64_t head) { expand_head(head, ordered, padded, y); });
}

void Step::run(float* y) const {
    static thread_local Scratch<float> q_scratch, sums_scratch, mixed_scratch;
    const int64_t size = sums_size(lanes_, a_.C);
    float* const q = q_scratch.take(groups_ * X() * lanes_);
    float* const sums = sums_scratch.take(groups_ * size);
    float* const mixed = mixed_scratch.take(rows_ * a_.C);
    std::fill_n(q + (groups_ - 1) * X() * lanes_, X() * lanes_, 0.0f);
    for_heads([&](int64_t head) { absorb_head(head, q); });
    attend_to_pages(q, sums);
    for (int64_t group = 0; group < groups_; ++group) {
        operations_.average(sums + group * size, rows_of(group), a_.C, mixed + group * lanes_ * a_.C, a_.C);
    }
    expand(mixed, y);
}

}  // namespace

void mla_decode(const Operations& operations, const Attention& attention, float* y) {
    const int64_t tokens = std::clamp<int64_t>(kRowsAtATime / attention.H, 1, kTokenTile);
    for (int64_t first = 0; first < attention.T; first += tokens) {
        Step(operations, attention, first, std::min(tokens, attention.T - first)).run(y);
    }
}

}  // namespace araio
