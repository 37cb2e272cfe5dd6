// The Python module araio.disk._native: one class over `DiskReader`. Sizes and addresses are checked here,
// that a tag is in flight once by `native_reader.py`; the interpreter's lock is released before anything
// waits.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <vector>

#include "crc32.h"
#include "engine.h"

namespace araio::disk {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using PieceTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, int>;

constexpr int64_t kFarthest = int64_t{1} << 62;         // leaves room to add a size
constexpr int64_t kNumberBytes[] = {1, 4, 2, 2, 1, 4};  // by Check

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

Clock::duration duration(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

class Reader {
  public:
    Reader(int threads, bool by_ring) : process_(getpid()) {
        require(threads >= 1, "there must be a thread");
        auto served = std::make_unique<Served>();
        try {
            served->engine = (by_ring ? serve_by_ring : serve_by_threads)(served->queue, threads);
        } catch (const std::system_error& error) {
            errno = error.code().value();
            PyErr_SetFromErrno(PyExc_OSError);
            throw nb::python_error();
        }
        served_ = served.release();
    }

    // The child of a fork has none of the threads, but their locks, held for ever: it leaves all that behind.
    ~Reader() {
        if (process_ != getpid()) return;
        close();
        delete served_;
    }

    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    int64_t add(int descriptor, bool is_direct) {
        files_.push_back({descriptor, is_direct});
        return static_cast<int64_t>(files_.size()) - 1;
    }

    // The caller keeps the slot alive until the read is reported.
    void submit(int64_t tag, Bytes slot, const std::vector<PieceTuple>& pieces, std::optional<uint32_t> crc32,
                bool is_urgent) {
        auto record = std::make_unique<Record>();
        record->tag = tag;
        record->has_crc32 = crc32.has_value();
        record->crc32 = crc32.value_or(0);
        require(!pieces.empty(), "a read has at least one piece");
        for (const auto& [file, offset, size, target, check] : pieces) {
            require(file >= 0 && file < static_cast<int64_t>(files_.size()),
                    "a piece's file was never added");
            require(check >= 0 && check < static_cast<int>(std::size(kNumberBytes)), "a check is unknown");
            require(offset >= 0 && offset <= kFarthest && size >= 0 && size % kNumberBytes[check] == 0,
                    "a piece must be a range of whole numbers");
            const auto room = static_cast<int64_t>(slot.shape(0));
            require(target >= 0 && target <= room && size <= room - target, "a piece does not fit its slot");
            record->pieces.push_back(
                {files_[file], offset, size, slot.data() + target, static_cast<Check>(check)});
        }
        served_->queue.put(std::move(record), is_urgent);
    }

    void promote(int64_t tag) { served_->queue.promote(tag); }
    bool cancel(int64_t tag) { return served_->queue.cancel(tag); }

    std::vector<std::tuple<int64_t, int, int64_t, int64_t>> wait(double seconds) {
        std::vector<std::tuple<int64_t, int, int64_t, int64_t>> reported;
        const nb::gil_scoped_release unlocked;
        for (const auto& [tag, failure] : served_->queue.wait(duration(seconds))) {
            reported.emplace_back(tag, static_cast<int>(failure.cause), failure.piece, failure.value);
        }
        return reported;
    }

    bool drain(double seconds) {
        const nb::gil_scoped_release unlocked;
        return served_->queue.drain(duration(seconds));
    }

    std::tuple<int64_t, int64_t, double> counters() {
        const Counters counters = served_->queue.counters();
        return {counters.reads, counters.bytes, counters.busy_seconds};
    }

    void close() {
        if (process_ != getpid()) return;
        const nb::gil_scoped_release unlocked;
        served_->queue.stop();
        const std::lock_guard<std::mutex> alone(served_->closing);
        served_->engine.reset();
    }

  private:
    struct Served {
        ReadQueue queue;
        std::unique_ptr<Engine> engine;
        std::mutex closing;
    };

    pid_t process_;
    Served* served_;
    std::vector<File> files_;
};

uint32_t checksum(nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> content,
                  uint32_t crc, bool by_tables) {
    const auto size = static_cast<int64_t>(content.shape(0));
    return by_tables ? crc32_by_tables(crc, content.data(), size) : crc32(crc, content.data(), size);
}

}  // namespace
}  // namespace araio::disk

NB_MODULE(_native, module) {
    using namespace araio::disk;
    module.doc() = "The compiled reader; see araio.disk.native_reader.";
    module.def("crc32", &checksum, "content"_a, "crc"_a = 0, "by_tables"_a = false,
               "zlib.crc32, by the fastest way of this CPU or by tables alone.");
    nb::class_<Reader>(module, "DiskReader", "Reads by threads; see araio.disk.reader.Reader.")
        .def(nb::init<int, bool>(), "threads"_a, "by_ring"_a,
             "OSError where the system has no such threads or no ring for us.")
        .def("add", &Reader::add, "descriptor"_a, "is_direct"_a,
             "Number of a file, which stays open until close.")
        .def("submit", &Reader::submit, "tag"_a, "slot"_a.noconvert(), "pieces"_a, "crc32"_a.none(),
             "urgent"_a)
        .def("promote", &Reader::promote, "tag"_a)
        .def("cancel", &Reader::cancel, "tag"_a)
        .def("wait", &Reader::wait, "seconds"_a, "Tag, cause, piece and value of what is over.")
        .def("drain", &Reader::drain, "seconds"_a, "Whether nothing is in flight.")
        .def("counters", &Reader::counters, "Reads, bytes and busy seconds.")
        .def("close", &Reader::close);
}
