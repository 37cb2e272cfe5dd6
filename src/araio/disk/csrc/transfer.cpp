#include "transfer.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace araio::disk {
namespace {

constexpr int64_t kLargestFolio = int64_t{2} << 20;

}  // namespace

Bounce::Bounce() : memory_(static_cast<uint8_t*>(std::aligned_alloc(kBlock, kSegment))) {
    if (!memory_) throw std::bad_alloc();
}

Transfer::Transfer(const Segment& segment, const Bounce& bounce)
    : segment_(segment), offset_(segment.offset), size_(segment.size), memory_(target()) {
    const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(memory_));
    if (piece().file.is_direct && (offset_ | size_ | address) % kBlock != 0) {
        offset_ = round_down(segment.offset);
        size_ = round_up(segment.offset + segment.size) - offset_;
        memory_ = bounce.data();
    }
}

void Transfer::take(int64_t result) {
    if (result == -EINTR || result == -EAGAIN) return;
    if (result < 0) error_ = static_cast<int>(-result);
    const int64_t got = resume_at() + result;
    is_over_ = result < 0 || got <= got_ || got == size_;  // an error, the end of the file, or all of it
    got_ = std::max(got, got_);
}

Outcome Transfer::settle() const {
    Outcome outcome;
    outcome.read_bytes = got_;
    if (!piece().file.is_direct) {
        // Only what lies in the range as a whole is given back, and the system may keep files in pieces of 2
        // MiB.
        const int64_t begin = std::max<int64_t>(0, round_down(offset_) - kLargestFolio);
        posix_fadvise(descriptor(), begin, round_up(offset_ + size_) + kLargestFolio - begin,
                      POSIX_FADV_DONTNEED);
    }
    if (error_ != 0) {
        outcome.failure = {Cause::kSystem, segment_.piece, error_};
        return outcome;
    }
    const int64_t margin = segment_.offset - offset_;
    const int64_t useful = std::clamp<int64_t>(got_ - margin, 0, segment_.size);
    if (memory_ != target()) std::memcpy(target(), memory_ + margin, useful);
    if (useful < segment_.size) {
        outcome.failure = {Cause::kShort, segment_.piece, segment_.offset - piece().offset + useful};
    }
    return outcome;
}

}  // namespace araio::disk
