// `ThreadPool`: the process's worker threads, kept from one operation to the next.
//
// Operations follow each other within microseconds, so an idle worker watches for the next one a while before
// it sleeps. The caller works too and never waits for a worker that has not begun: on a machine that is busy
// with other things an operation takes longer, but it does not stand still.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace araio {

// Multiplications, or as much other work, of an operation that is worth sharing out: some 15 us of one
// thread.
constexpr int64_t kWorthSharing = 1 << 18;

class ThreadPool {
  public:
    // The one pool; its threads are started by the first call that needs them.
    static ThreadPool& shared();

    // Threads that work on an operation, the caller's included, at least 1, and the products from which an
    // operation is shared out. Waits for a running operation. They become fewer where the system refuses to
    // start so many.
    void set_threads(int threads, int64_t worth_sharing = kWorthSharing);
    int threads() const { return threads_.load(std::memory_order_relaxed); }

    // Calls work(i) once for every i in [0, count), in no order, and returns when all are done; `products` is
    // what they multiply in all. A call while another thread's is running does everything itself. What a call
    // of work throws comes out here, the first of several; some i may then never have had their turn.
    template <typename Work>
    void run(int64_t count, int64_t products, const Work& work) {
        if (count < 2 || products < worth_sharing_ || threads() < 2 || !owner_.try_lock()) {
            for (int64_t i = 0; i < count; ++i) work(i);
            return;
        }
        const std::lock_guard<std::mutex> owned(owner_, std::adopt_lock);
        run_shared(
            count, [](const void* object, int64_t i) { (*static_cast<const Work*>(object))(i); }, &work);
    }

  private:
    using Call = void (*)(const void*, int64_t);

    void run_shared(int64_t count, Call call, const void* object);
    void take_items() noexcept;
    void work_until(uint64_t retired);
    void start_workers();
    void stop_workers();

    // Workers may enter the current job while it is open; the caller closes it and waits until nobody is in
    // it. One word, so that entering and closing cannot cross: (job number << 16 | open << 15 | workers
    // inside).
    std::atomic<uint64_t> gate_{0};
    std::atomic<int64_t> next_{0};
    int64_t count_ = 0;
    Call call_ = nullptr;
    const void* object_ = nullptr;

    std::mutex fail_;
    std::exception_ptr failure_;  // what an item of the current job threw

    std::mutex owner_;  // held by the caller whose job it is
    std::atomic<int> threads_{1};
    std::atomic<int64_t> worth_sharing_{kWorthSharing};
    std::vector<std::thread> workers_;

    std::mutex sleep_;
    std::condition_variable wake_;
    std::atomic<int> sleepers_{0};
    std::atomic<bool> is_stopping_{false};
};

}  // namespace araio
