// Two threads: the pilot keeps the ring filled and waits for it; the porter puts what has landed in its place
// and verifies records, so that no copy and no checksum holds up the next read. A bell (eventfd), which the
// pilot reads through the ring as well, tells of new work and of flights that are free again.

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <system_error>
#include <thread>
#include <vector>

#include "engine.h"
#include "ring.h"
#include "transfer.h"

namespace araio::disk {
#ifdef ARAIO_HAS_RING
namespace {

constexpr uint64_t kBell = 0;  // the name of its read; those of flights are their addresses

struct Flight {
    Bounce bounce;
    Transfer transfer;
};

class Bell {
  public:
    Bell() : descriptor_(eventfd(0, EFD_CLOEXEC)) {
        if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    ~Bell() { close(descriptor_); }
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;

    void ring() const { eventfd_write(descriptor_, 1); }
    void listen(Ring& ring) { ring.read(descriptor_, &rings_, sizeof rings_, 0, kBell); }

  private:
    int descriptor_;
    uint64_t rings_ = 0;  // how often, since it was last heard
};

class RingEngine : public Engine {
  public:
    RingEngine(ReadQueue& queue, int depth) : queue_(queue), ring_(depth + 1), flights_(depth) {
        for (Flight& flight : flights_) free_.push_back(&flight);
        queue_.set_bell([this] { bell_.ring(); });
        porter_ = std::thread([this] { carry(); });
        try {
            pilot_ = std::thread([this] { fly(); });
        } catch (...) {
            end_landing();
            porter_.join();
            throw;
        }
    }

    ~RingEngine() override {
        pilot_.join();
        porter_.join();
    }

  private:
    // The pilot's life. It ends when the queue has stopped, and all reads, the bell's too, are over: the
    // kernel writes to nothing any more.
    void fly() {
        size_t aloft = 0;
        bool is_listening = true;
        bell_.listen(ring_);
        while (is_listening || aloft > 0) {
            while (Flight* flight = start_next()) {
                launch(*flight);
                ++aloft;
            }
            ring_.enter();
            uint64_t name;
            for (int64_t result; ring_.pop(name, result);) {
                if (name == kBell) {
                    is_listening = !queue_.is_stopping();
                    if (is_listening) bell_.listen(ring_);
                    continue;
                }
                Flight& flight = *reinterpret_cast<Flight*>(name);
                flight.transfer.take(result);
                if (!flight.transfer.is_over()) {
                    launch(flight);
                    continue;
                }
                --aloft;
                land(flight);
            }
        }
        end_landing();
    }

    Flight* start_next() {
        const std::lock_guard<std::mutex> alone(lock_);
        Segment segment;
        if (free_.empty() || !queue_.try_take(segment)) return nullptr;
        Flight* flight = free_.back();
        free_.pop_back();
        flight->transfer = Transfer(segment, flight->bounce);
        return flight;
    }

    void launch(Flight& flight) {
        const Transfer& transfer = flight.transfer;
        ring_.read(transfer.descriptor(), transfer.memory(), static_cast<uint32_t>(transfer.size()),
                   transfer.offset(), reinterpret_cast<uintptr_t>(&flight));
    }

    void land(Flight& flight) {
        const std::lock_guard<std::mutex> alone(lock_);
        landed_.push_back(&flight);
        landing_.notify_one();
    }

    void end_landing() {
        const std::lock_guard<std::mutex> alone(lock_);
        is_over_ = true;
        landing_.notify_one();
    }

    // The porter's life.
    void carry() {
        std::unique_lock<std::mutex> alone(lock_);
        for (;;) {
            landing_.wait(alone, [&] { return !landed_.empty() || is_over_; });
            if (landed_.empty()) return;
            Flight* flight = landed_.front();
            landed_.pop_front();
            alone.unlock();
            const Segment segment = flight->transfer.segment();
            const Outcome outcome = flight->transfer.settle();
            alone.lock();
            free_.push_back(flight);
            alone.unlock();
            bell_.ring();
            book(queue_, segment, outcome);
            alone.lock();
        }
    }

    ReadQueue& queue_;
    Ring ring_;
    Bell bell_;
    std::vector<Flight> flights_;

    std::mutex lock_;
    std::condition_variable landing_;
    std::vector<Flight*> free_;
    std::deque<Flight*> landed_;
    bool is_over_ = false;

    std::thread pilot_;
    std::thread porter_;
};

}  // namespace

std::unique_ptr<Engine> serve_by_ring(ReadQueue& queue, int depth) {
    return std::make_unique<RingEngine>(queue, depth);
}

#else

std::unique_ptr<Engine> serve_by_ring(ReadQueue&, int) {
    throw std::system_error(ENOSYS, std::generic_category(), "io_uring");
}

#endif

}  // namespace araio::disk
