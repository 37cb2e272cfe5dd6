#include "read_queue.h"

namespace araio::disk {
namespace {

double seconds_since(Clock::time_point moment) {
    return std::chrono::duration<double>(Clock::now() - moment).count();
}

}  // namespace

void ReadQueue::put(std::unique_ptr<Record> record, bool is_urgent) {
    record->segments = cut(*record);
    record->unfinished = record->segments.size();
    Record& read = *record;
    const std::lock_guard<std::mutex> alone(lock_);
    if (is_stopping_) return;  // somebody closes the reader at this moment
    if (in_flight_.empty()) busy_since_ = Clock::now();
    in_flight_[read.tag] = std::move(record);
    if (read.segments.empty()) {
        ++counters_.reads;
        done_.push_back({read.tag, {}});
        leave(read.tag);
        return;
    }
    read.place = {!is_urgent, number_++};
    waiting_[read.place] = &read;
    work_.notify_all();
    if (bell_) bell_();
}

void ReadQueue::promote(int64_t tag) {
    const std::lock_guard<std::mutex> alone(lock_);
    const auto found = in_flight_.find(tag);
    if (found == in_flight_.end()) return;
    Record& record = *found->second;
    const auto place = waiting_.find(record.place);
    if (place == waiting_.end() || !record.place.first) return;
    waiting_.erase(place);
    record.place = {false, number_++};
    waiting_[record.place] = &record;
}

bool ReadQueue::cancel(int64_t tag) {
    const std::lock_guard<std::mutex> alone(lock_);
    const auto found = in_flight_.find(tag);
    if (found == in_flight_.end() || found->second->begun > 0) return false;
    waiting_.erase(found->second->place);
    leave(tag);
    return true;
}

std::vector<Done> ReadQueue::wait(Clock::duration at_most) {
    std::unique_lock<std::mutex> alone(lock_);
    news_.wait_for(alone, at_most, [&] { return !done_.empty() || in_flight_.empty() || is_stopping_; });
    return std::exchange(done_, {});
}

bool ReadQueue::drain(Clock::duration at_most) {
    std::unique_lock<std::mutex> alone(lock_);
    return news_.wait_for(alone, at_most, [&] { return in_flight_.empty() || is_stopping_; });
}

Counters ReadQueue::counters() {
    const std::lock_guard<std::mutex> alone(lock_);
    Counters counters = counters_;
    if (!in_flight_.empty() && !is_stopping_) counters.busy_seconds += seconds_since(busy_since_);
    return counters;
}

void ReadQueue::stop() {
    const std::lock_guard<std::mutex> alone(lock_);
    if (is_stopping_) return;
    if (!in_flight_.empty()) counters_.busy_seconds += seconds_since(busy_since_);
    is_stopping_ = true;
    waiting_.clear();
    work_.notify_all();
    news_.notify_all();
    if (bell_) bell_();
}

bool ReadQueue::take(Segment& segment) {
    std::unique_lock<std::mutex> alone(lock_);
    work_.wait(alone, [&] { return !waiting_.empty() || is_stopping_; });
    return take_waiting(segment);
}

bool ReadQueue::try_take(Segment& segment) {
    const std::lock_guard<std::mutex> alone(lock_);
    return take_waiting(segment);
}

bool ReadQueue::is_stopping() {
    const std::lock_guard<std::mutex> alone(lock_);
    return is_stopping_;
}

void ReadQueue::set_bell(std::function<void()> bell) {
    const std::lock_guard<std::mutex> alone(lock_);
    bell_ = std::move(bell);
}

// Stopped, the queue has nothing that waits.
bool ReadQueue::take_waiting(Segment& segment) {
    if (waiting_.empty()) return false;
    Record& record = *waiting_.begin()->second;
    segment = record.segments[record.begun++];
    if (record.begun == record.segments.size()) waiting_.erase(waiting_.begin());
    return true;
}

Record* ReadQueue::finish(const Segment& segment, const Outcome& outcome) {
    const std::lock_guard<std::mutex> alone(lock_);
    counters_.bytes += outcome.read_bytes;
    Record& record = *segment.record;
    --record.unfinished;
    if (outcome.failure.cause != Cause::kNone) {
        // Nobody needs the rest. Of several failures the one that comes first in the record is told.
        record.unfinished -= record.segments.size() - record.begun;
        record.begun = record.segments.size();
        waiting_.erase(record.place);
        const auto at = std::make_pair(segment.piece, segment.offset);
        if (record.failure.cause == Cause::kNone ||
            at < std::make_pair(record.failure.piece, record.failed_at)) {
            record.failure = outcome.failure;
            record.failed_at = segment.offset;
        }
    }
    return record.unfinished == 0 ? &record : nullptr;
}

void ReadQueue::complete(Record& record, const Failure& failure) {
    const std::lock_guard<std::mutex> alone(lock_);
    ++counters_.reads;
    done_.push_back({record.tag, failure});
    leave(record.tag);
}

// The record is no longer in flight.
void ReadQueue::leave(int64_t tag) {
    in_flight_.erase(tag);
    if (in_flight_.empty() && !is_stopping_) counters_.busy_seconds += seconds_since(busy_since_);
    news_.notify_all();
}

}  // namespace araio::disk
