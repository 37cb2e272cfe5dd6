#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <thread>
#include <vector>

#include "engine.h"
#include "transfer.h"

namespace araio::disk {
namespace {

class ThreadEngine : public Engine {
  public:
    ThreadEngine(ReadQueue& queue, int threads) : queue_(queue), bounces_(threads) {
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

    ~ThreadEngine() override {
        for (std::thread& thread : threads_) thread.join();
    }

  private:
    // A thread's life.
    void serve(const Bounce& bounce) {
        Segment segment;
        while (queue_.take(segment)) {
            Transfer transfer(segment, bounce);
            while (!transfer.is_over()) {
                const ssize_t size =
                    pread(transfer.descriptor(), transfer.memory(), transfer.size(), transfer.offset());
                transfer.take(size < 0 ? -errno : size);
            }
            book(queue_, segment, transfer.settle());
        }
    }

    ReadQueue& queue_;
    std::vector<Bounce> bounces_;
    std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Engine> serve_by_threads(ReadQueue& queue, int threads) {
    return std::make_unique<ThreadEngine>(queue, threads);
}

void book(ReadQueue& queue, const Segment& segment, const Outcome& outcome) {
    Record* record = queue.finish(segment, outcome);
    if (record == nullptr) return;
    const bool is_whole = record->failure.cause == Cause::kNone;
    queue.complete(*record, is_whole ? verify(*record) : record->failure);
}

}  // namespace araio::disk
