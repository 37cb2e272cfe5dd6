#include "prepared.h"

#include "thread_pool.h"

namespace araio {
namespace {

// Preparing a number takes as long as so many multiplications.
constexpr int64_t kProducts = 8;
constexpr int64_t kRowsAPiece = 8;

// work(first row, rows) over T rows of I numbers.
template <typename Work>
void for_rows(int64_t T, int64_t I, const Work& work) {
    ThreadPool::shared().run(ceil_div(T, kRowsAPiece), kProducts * T * I, [&](int64_t piece) {
        const int64_t first = piece * kRowsAPiece;
        work(first, T - first < kRowsAPiece ? T - first : kRowsAPiece);
    });
}

}  // namespace

void Prepared::begin(const Operations& operations, const float* x, int64_t T, int64_t I) {
    operations_ = &operations;
    x_ = x;
    T_ = T;
    I_ = I;
    const int64_t blocks = ceil_div(I, kBlockColumns);
    forms_[kPlain] = {x, nullptr, nullptr, nullptr, I, blocks};
    is_made_[kPlain] = true;
    is_made_[kFp8Order] = is_made_[kIntegers] = false;
}

void Prepared::need(Codec codec) {
    const Form form = form_of(codec);
    if (is_made_[form]) return;
    is_made_[form] = true;
    const int64_t blocks = ceil_div(I_, kBlockColumns);
    if (form == kFp8Order) {
        const int64_t padded = ceil_div(I_, kFp8Group) * kFp8Group;
        float* const values = values_.take(T_ * padded);
        for_rows(T_, I_, [&](int64_t first, int64_t rows) {
            operations_->to_fp8_order(x_ + first * I_, rows, I_, values + first * padded);
        });
        forms_[form] = {values, nullptr, nullptr, nullptr, padded, blocks};
        return;
    }
    int8_t* const integers = integers_.take(T_ * blocks * kBlockColumns);
    float* const scales = scales_.take(T_ * blocks);
    int32_t* const sums = sums_.take(T_ * blocks);
    for_rows(T_, I_, [&](int64_t first, int64_t rows) {
        operations_->to_integers(x_ + first * I_, rows, I_, integers + first * blocks * kBlockColumns,
                                 scales + first * blocks, sums + first * blocks);
    });
    forms_[form] = {nullptr, integers, scales, sums, 0, blocks};
}

}  // namespace araio
