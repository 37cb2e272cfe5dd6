// `DiskReader`: a queue of reads and the threads that serve it.
#pragma once

#include <thread>
#include <vector>

#include "read_queue.h"
#include "transfer.h"

namespace araio::disk {

class DiskReader {
  public:
    // Throws std::system_error where not even one thread can be started.
    explicit DiskReader(int threads);
    ~DiskReader() { close(); }
    DiskReader(const DiskReader&) = delete;
    DiskReader& operator=(const DiskReader&) = delete;

    ReadQueue& queue() { return queue_; }

    // What has begun is read to the end of its segment, the rest is dropped.
    void close();

  private:
    void serve(const Bounce& bounce);

    ReadQueue queue_;
    std::vector<Bounce> bounces_;
    std::mutex closing_;
    std::vector<std::thread> threads_;
};

}  // namespace araio::disk
