#include "thread_pool.h"

#include <pthread.h>

#include <chrono>
#include <system_error>
#include <utility>

namespace araio {
namespace {

constexpr uint64_t kJob = uint64_t{1} << 16;
constexpr uint64_t kOpen = uint64_t{1} << 15;
constexpr uint64_t kInside = kOpen - 1;

// How long an idle worker watches. The gap between the operations of a token is far shorter; the gap between
// two answers is longer, and not worth a core.
constexpr auto kWatch = std::chrono::microseconds(300);
constexpr int kPausesPerLook = 64;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool& ThreadPool::shared() {
    static ThreadPool* pool = [] {
        // The child of a fork has none of the threads, but their locks, held for ever, and a condition that
        // waits for them. It leaves all that behind and begins anew.
        pthread_atfork(nullptr, nullptr, [] {
            const int threads = pool->threads();
            const int64_t worth_sharing = pool->worth_sharing_;
            pool = new ThreadPool;
            pool->threads_ = threads;
            pool->worth_sharing_ = worth_sharing;
        });
        return new ThreadPool;  // never destroyed: workers may outlive static objects
    }();
    return *pool;
}

void ThreadPool::set_threads(int threads, int64_t worth_sharing) {
    const std::lock_guard<std::mutex> owned(owner_);
    stop_workers();
    threads_ = threads;
    worth_sharing_ = worth_sharing;
}

void ThreadPool::run_shared(int64_t count, Call call, const void* object) {
    start_workers();
    count_ = count;
    call_ = call;
    object_ = object;
    next_.store(0, std::memory_order_relaxed);
    const uint64_t job = (gate_.load(std::memory_order_relaxed) / kJob + 1) * kJob;
    gate_.store(job | kOpen);
    if (sleepers_.load() > 0) {
        {
            const std::lock_guard<std::mutex> awake(sleep_);
        }
        wake_.notify_all();
    }
    take_items();
    gate_.fetch_and(~kOpen);
    for (int looks = 0; (gate_.load(std::memory_order_acquire) & kInside) != 0; ++looks) {
        // A worker that the system put aside in the middle of an item needs this core more than we do.
        looks < kPausesPerLook ? pause() : std::this_thread::yield();
    }
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

// Items until none is left, or one has failed: then nobody begins another.
void ThreadPool::take_items() noexcept {
    try {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) call_(object_, i);
    } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        const std::lock_guard<std::mutex> alone(fail_);
        if (!failure_) failure_ = std::current_exception();
    }
}

// A worker's life. `retired` is the word of the gate that it has nothing more to do for.
void ThreadPool::work_until(uint64_t retired) {
    const auto has_news = [&] { return is_stopping_.load() || gate_.load() / kJob != retired / kJob; };
    while (!is_stopping_.load()) {
        auto gate = gate_.load(std::memory_order_acquire);
        if (gate / kJob != retired / kJob && (gate & kOpen) != 0) {
            if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
            take_items();
            retired = gate_.fetch_sub(1, std::memory_order_acq_rel);
            continue;
        }
        const auto give_up = std::chrono::steady_clock::now() + kWatch;
        bool is_new = false;
        retired = gate;
        while (!(is_new = has_news()) && std::chrono::steady_clock::now() < give_up) {
            for (int i = 0; i < kPausesPerLook && !(is_new = has_news()); ++i) pause();
            if (is_new) break;
        }
        if (is_new) continue;
        std::unique_lock<std::mutex> asleep(sleep_);
        sleepers_.fetch_add(1);
        wake_.wait(asleep, has_news);
        sleepers_.fetch_sub(1);
    }
}

void ThreadPool::start_workers() {
    while (static_cast<int>(workers_.size()) + 1 < threads()) {
        const uint64_t seen = gate_.load();
        try {
            workers_.emplace_back([this, seen] { work_until(seen); });
        } catch (const std::system_error&) {
            // The system has no more for this process: as many as there are do the work.
            threads_ = static_cast<int>(workers_.size()) + 1;
        }
    }
}

void ThreadPool::stop_workers() {
    is_stopping_ = true;
    {
        const std::lock_guard<std::mutex> awake(sleep_);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    is_stopping_ = false;
}

}  // namespace araio
