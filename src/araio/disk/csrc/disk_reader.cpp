#include "disk_reader.h"

#include <system_error>

namespace araio::disk {

DiskReader::DiskReader(int threads) : bounces_(threads) {
    for (const Bounce& bounce : bounces_) {
        try {
            threads_.emplace_back([this, &bounce] { serve(bounce); });
        } catch (const std::system_error&) {
            // The system has no more for this process: as many as there are do the work.
            if (threads_.empty()) throw;
            return;
        }
    }
}

void DiskReader::close() {
    queue_.stop();
    const std::lock_guard<std::mutex> alone(closing_);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
}

// A thread's life.
void DiskReader::serve(const Bounce& bounce) {
    Segment segment;
    while (queue_.take(segment)) {
        Record* record = queue_.finish(segment, read_segment(segment, bounce));
        if (record == nullptr) continue;
        const bool is_whole = record->failure.cause == Cause::kNone;
        queue_.complete(*record, is_whole ? verify(*record) : record->failure);
    }
}

}  // namespace araio::disk
