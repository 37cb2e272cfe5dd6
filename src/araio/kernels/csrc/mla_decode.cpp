// The absorbed form. Queries are brought into the space of the latents (w_uk^T q), attend to one page of
// positions after the other there, and what they found is brought back (w_uv).
//
// A row is one head's query of one token; a visit, some rows of a sequence at one of its pages. Sequences
// share the weights and the threads: the visits of all are one job. Pages begin at fixed positions and are
// merged in their order, so an answer depends neither on the number of threads nor on the other rows of the
// call.

#include <algorithm>

#include "attention.h"
#include "thread_pool.h"

namespace araio {
namespace {

// Rows in work at a time, and numbers of their sums over single pages: 8 MiB, however long the context.
constexpr int64_t kRowsAtATime = 1024;
constexpr int64_t kPartialNumbers = 1 << 21;

// Tokens whose queries are absorbed at a time, so that their sums stay in the first-level cache.
constexpr int64_t kTokensAtATime = 16;

// Numbers of kv_b_proj that are worth an item of work.
constexpr int64_t kNumbersPerItem = 1 << 15;

// Some rows of a matrix.
struct WeightRows {
    Matrix matrix;
    int64_t begin, end;
};

// Rows of one sequence, one a lane.
struct Group {
    const Sequence* sequence;
    int64_t begin, end;  // of the step's rows
    int64_t seen;        // positions that the last of them sees
};

struct Visit {
    int64_t group, page;
};

// Some tokens of a call, all heads of each; rows by token, then head.
class Step {
  public:
    Step(const Operations& operations, const Attention& attention, int64_t first, int64_t tokens);

    void run(float* y) const;

  private:
    int64_t X() const { return a_.C + a_.R; }
    int64_t groups() const { return static_cast<int64_t>(groups_.size()); }
    // Positions that a row sees.
    int64_t seen_by(const Sequence& sequence, int64_t row) const {
        return sequence.seen(first_ + row / a_.H);
    }

    void plan(const Sequence& sequence);
    WeightRows weights_of(int64_t head, int64_t begin, int64_t end, Scratch<float>& wide) const;
    void absorb_head(int64_t head, float* q) const;
    void attend_to_page(const Visit& visit, const float* q, float* sums) const;
    void expand_head(int64_t head, const float* mixed, int64_t width, float* y) const;
    void attend_to_pages(const float* q, float* mixed) const;
    void expand(const float* mixed, float* y) const;
    template <typename Work>
    void for_heads(const Work& work) const;

    const Operations& operations_;
    const Attention& a_;
    int64_t first_, tokens_, rows_, lanes_;
    std::vector<int64_t> places_;  // (rows) where a row's lane begins in q (groups, X, lanes)
    std::vector<Group> groups_;
    std::vector<Visit> visits_;  // those of a sequence by page, then group
};

Step::Step(const Operations& operations, const Attention& attention, int64_t first, int64_t tokens)
    : operations_(operations),
      a_(attention),
      first_(first),
      tokens_(tokens),
      rows_(tokens * attention.H),
      lanes_(operations.lanes) {
    places_.reserve(static_cast<size_t>(rows_));
    for (const Sequence& sequence : a_.sequences) plan(sequence);
}

// The groups and visits of a sequence, of those of its tokens that belong to the step.
void Step::plan(const Sequence& sequence) {
    const int64_t begin = (std::max(sequence.first, first_) - first_) * a_.H;
    const int64_t end = (std::min(sequence.first + sequence.T, first_ + tokens_) - first_) * a_.H;
    if (begin >= end) return;
    const int64_t first_group = groups();
    for (int64_t row = begin; row < end; row += lanes_) {
        const int64_t stop = std::min(row + lanes_, end);
        for (int64_t lane = 0; lane < stop - row; ++lane) places_.push_back(groups() * X() * lanes_ + lane);
        groups_.push_back({&sequence, row, stop, seen_by(sequence, stop - 1)});
    }
    for (int64_t page = 0; page < ceil_div(groups_.back().seen, kPage); ++page) {
        for (int64_t group = first_group; group < groups(); ++group) {
            if (groups_[static_cast<size_t>(group)].seen > page * kPage) visits_.push_back({group, page});
        }
    }
}

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
    const WeightRows w_uk = weights_of(head, 0, a_.N, wide);
    const auto add_rows = operations_.add_rows[static_cast<int>(w_uk.matrix.codec)];
    for (int64_t begin = 0; begin < tokens_; begin += kTokensAtATime) {
        const int64_t tokens = std::min(kTokensAtATime, tokens_ - begin);
        float* const query = query_scratch.take(tokens * a_.N);
        float* const absorbed = absorbed_scratch.take(tokens * a_.C);
        for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t n = 0; n < a_.N; ++n)
                query[t * a_.N + n] = a_.q_nope.at(first_ + begin + t, head, n);
        }
        std::fill_n(absorbed, tokens * a_.C, 0.0f);
        add_rows(w_uk.matrix, w_uk.begin, w_uk.end, query, tokens, absorbed);
        for (int64_t t = 0; t < tokens; ++t) {
            float* const lane = q + places_[static_cast<size_t>((begin + t) * a_.H + head)];
            for (int64_t c = 0; c < a_.C; ++c) lane[c * lanes_] = absorbed[t * a_.C + c] * a_.scale;
            for (int64_t r = 0; r < a_.R; ++r) {
                lane[(a_.C + r) * lanes_] = a_.q_pe.at(first_ + begin + t, head, r) * a_.scale;
            }
        }
    }
}

// The sums of a group over one page, of which it sees a part.
void Step::attend_to_page(const Visit& visit, const float* q, float* sums) const {
    static thread_local Scratch<float> scratch;
    static thread_local Scratch<int64_t> seen_scratch;
    const Group& group = groups_[static_cast<size_t>(visit.group)];
    const Sequence& sequence = *group.sequence;
    const int64_t start = visit.page * kPage, count = std::min(kPage, group.seen - start);
    const int64_t rows = group.end - group.begin;
    int64_t* const seen = seen_scratch.take(lanes_);
    for (int64_t lane = 0; lane < lanes_; ++lane) {
        seen[lane] = lane < rows ? seen_by(sequence, group.begin + lane) : group.seen;
    }
    operations_.no_sums(rows, a_.C, sums);
    const auto attend = [&](auto to_positions, const auto* latents) {
        to_positions({rows, q + visit.group * X() * lanes_, seen, sums},
                     {start, count, latents, X(), X(), latents, a_.C, X()},
                     scratch.take(attend_scratch(lanes_, kPage, X())));
    };
    a_.codec == Codec::bf16 ? attend(operations_.attend_bf16, a_.page<uint16_t>(sequence, visit.page))
                            : attend(operations_.attend, a_.page<float>(sequence, visit.page));
}

// One head's answers, w_uv, from the mixed latents (rows, width) in the form that kv_b_proj is multiplied by.
void Step::expand_head(int64_t head, const float* mixed, int64_t width, float* y) const {
    static thread_local Scratch<float> wide;
    const WeightRows w_uv = weights_of(head, a_.N, a_.N + a_.V, wide);
    const Codec codec = w_uv.matrix.codec;
    const int64_t stride = a_.H * a_.V;
    float* const answers = y + first_ * stride + head * a_.V;
    const float* const found = mixed + head * width;
    const Activations x = {found, nullptr, nullptr, nullptr, a_.H * width, 0};
    if (codec == Codec::q4 || codec == Codec::q8) {
        return operations_.dot_tiles(w_uv.matrix, w_uv.begin, w_uv.end, x, tokens_, answers, stride);
    }
    operations_.multiply[static_cast<int>(codec)](w_uv.matrix, x, nullptr, tokens_, w_uv.begin, w_uv.end,
                                                  answers, stride);
}

// The mixed latents (rows, C). Some visits at a time, each by itself, then merged in their order.
void Step::attend_to_pages(const float* q, float* mixed) const {
    static thread_local Scratch<float> partial_scratch, sums_scratch;
    ThreadPool& pool = ThreadPool::shared();
    const int64_t size = sums_size(lanes_, a_.C), visits = static_cast<int64_t>(visits_.size());
    const int64_t wave = std::min(visits, std::max<int64_t>(1, kPartialNumbers / size));
    float* const partial = partial_scratch.take(wave * size);
    float* const sums = sums_scratch.take(groups() * size);
    for (int64_t start = 0; start < visits; start += wave) {
        const int64_t stop = std::min(start + wave, visits);
        const auto visit = [&](int64_t place) -> const Visit& { return visits_[static_cast<size_t>(place)]; };
        pool.run(stop - start, (stop - start) * kPage * lanes_ * (X() + a_.C),
                 [&](int64_t item) { attend_to_page(visit(start + item), q, partial + item * size); });
        pool.run(groups(), (stop - start) * size, [&](int64_t index) {
            const Group& group = groups_[static_cast<size_t>(index)];
            const int64_t rows = group.end - group.begin;
            float* const own = sums + index * size;
            if (start == 0) operations_.no_sums(rows, a_.C, own);
            for (int64_t place = start; place < stop; ++place) {
                if (visit(place).group != index) continue;
                operations_.merge_sums(partial + (place - start) * size, rows, a_.C, own);
            }
            if (stop == visits) operations_.average(own, rows, a_.C, mixed + group.begin * a_.C, a_.C);
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
    static thread_local Scratch<float> q_scratch, mixed_scratch;
    float* const q = q_scratch.take(groups() * X() * lanes_);
    float* const mixed = mixed_scratch.take(rows_ * a_.C);
    for (int64_t group = 0; group < groups(); ++group) {
        const Group& some = groups_[static_cast<size_t>(group)];
        if (some.end - some.begin < lanes_) std::fill_n(q + group * X() * lanes_, X() * lanes_, 0.0f);
    }
    for_heads([&](int64_t head) { absorb_head(head, q); });
    attend_to_pages(q, mixed);
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
