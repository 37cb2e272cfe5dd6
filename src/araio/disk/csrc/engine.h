// `Engine`: serves a queue until it stops. Threads that each wait for one segment, or one ring for all of
// them.
#pragma once

#include <memory>

#include "read_queue.h"

namespace araio::disk {

class Engine {
  public:
    // The queue has been stopped: waits until nothing is written to a slot any more.
    virtual ~Engine() = default;
};

// So many threads, each with one segment at a time. Throws std::system_error where not even one can be
// started.
std::unique_ptr<Engine> serve_by_threads(ReadQueue& queue, int threads);

// io_uring with so many segments in flight. Throws std::system_error where the kernel has none or forbids it.
std::unique_ptr<Engine> serve_by_ring(ReadQueue& queue, int depth);

// Books what came of a segment; verifies the record if that was its last.
void book(ReadQueue& queue, const Segment& segment, const Outcome& outcome);

}  // namespace araio::disk
