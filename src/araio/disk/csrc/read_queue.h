// `ReadQueue`: records that wait, run and are done. Callers put, promote, cancel and wait; whoever serves
// takes segments, and says what came of them. Urgent records go first, among equals the first one, and its
// segments in their order, so that the first record is whole first.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "reads.h"

namespace araio::disk {

struct Done {
    int64_t tag;
    Failure failure;
};

struct Counters {
    int64_t reads = 0;
    int64_t bytes = 0;
    double busy_seconds = 0;
};

using Clock = std::chrono::steady_clock;

class ReadQueue {
  public:
    // For callers; araio.disk.reader.Reader says what each one does. `tag` is in flight nowhere.
    void put(std::unique_ptr<Record> record, bool is_urgent);
    void promote(int64_t tag);
    bool cancel(int64_t tag);
    std::vector<Done> wait(Clock::duration at_most);
    bool drain(Clock::duration at_most);  // whether nothing is in flight
    Counters counters();
    void stop();

    // For those who serve. The next segment: true; false when the queue has stopped.
    bool take(Segment& segment);
    // The same at once: false when there is none.
    bool try_take(Segment& segment);
    bool is_stopping();
    // What to call, under the lock, when there is something to take and when the queue stops; before any
    // `put`.
    void set_bell(std::function<void()> bell);
    // Books what came of a segment. The record, if all of it is over: it is then verified and completed.
    Record* finish(const Segment& segment, const Outcome& outcome);
    void complete(Record& record, const Failure& failure);

  private:
    bool take_waiting(Segment& segment);
    void leave(int64_t tag);

    std::mutex lock_;
    std::condition_variable work_;  // there is something to take
    std::condition_variable news_;  // something is done
    std::unordered_map<int64_t, std::unique_ptr<Record>> in_flight_;
    std::map<std::pair<bool, uint64_t>, Record*> waiting_;  // with segments that have not begun
    std::vector<Done> done_;
    std::function<void()> bell_;
    uint64_t number_ = 0;
    bool is_stopping_ = false;
    Counters counters_;
    Clock::time_point busy_since_;
};

}  // namespace araio::disk
