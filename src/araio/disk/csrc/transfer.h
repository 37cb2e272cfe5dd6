// One segment, from the file to the slot: what to ask the system for, and what to make of its answer.
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

// Bytes [offset, offset + size) of the file, into memory: the slot itself, or the blocks around in a bounce.
struct Transfer {
    int64_t offset;
    int64_t size;
    uint8_t* memory;
};

Transfer plan(const Segment& segment, const Bounce& bounce);

// Where a transfer goes on of which `got` bytes have come and not all; a direct one only begins at a block.
int64_t resume_at(const Segment& segment, int64_t got);

// What came of a segment, when `got` bytes of its transfer have come, or `error` is an errno.
Outcome settle(const Segment& segment, const Transfer& transfer, int64_t got, int error);

// The whole of it by pread, in this thread.
Outcome read_segment(const Segment& segment, const Bounce& bounce);

}  // namespace araio::disk
