// One segment's way from the file to the slot: what to ask the system for, and what to make of its answers.
#pragma once

#include <cstdlib>
#include <memory>

#include "reads.h"

namespace araio::disk {

// Memory for the whole blocks around a segment that is not aligned itself.
class Bounce {
  public:
    Bounce();  // throws std::bad_alloc
    uint8_t* data() const { return memory_.get(); }

  private:
    struct Free {
        void operator()(uint8_t* memory) const { std::free(memory); }
    };
    std::unique_ptr<uint8_t, Free> memory_;
};

// Reads straight into the slot where everything is aligned, or the file not direct; else the blocks around it
// into the bounce. Until it is over, ask for the next range and take what came.
class Transfer {
  public:
    Transfer() = default;
    Transfer(const Segment& segment, const Bounce& bounce);

    bool is_over() const { return is_over_; }
    int descriptor() const { return piece().file.descriptor; }
    uint8_t* memory() const { return memory_ + resume_at(); }
    int64_t offset() const { return offset_ + resume_at(); }
    int64_t size() const { return size_ - resume_at(); }

    // The bytes that came of that range, or an errno below zero.
    void take(int64_t result);

    // When it is over: the bytes are put in their place and the page cache is told to forget them.
    Outcome settle() const;

    const Segment& segment() const { return segment_; }

  private:
    const Piece& piece() const { return segment_.record->pieces[segment_.piece]; }
    uint8_t* target() const { return piece().target + (segment_.offset - piece().offset); }
    // A direct read that stopped early goes on at a block.
    int64_t resume_at() const { return piece().file.is_direct ? round_down(got_) : got_; }

    Segment segment_ = {};
    int64_t offset_ = 0;
    int64_t size_ = 0;
    uint8_t* memory_ = nullptr;
    int64_t got_ = 0;
    int error_ = 0;
    bool is_over_ = false;
};

}  // namespace araio::disk
