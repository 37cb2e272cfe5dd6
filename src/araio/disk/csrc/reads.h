// What is read: a record of pieces that go to one slot, cut into segments so that several threads share one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace araio::disk {

// What a read past the page cache may begin at: in the file, in memory, and in size.
constexpr int64_t kBlock = 4096;

// A segment's most bytes, whole blocks. Smaller ones share a record more evenly, larger ones ask the disk
// less often; docs/lab-notes.md has what was measured.
constexpr int64_t kSegment = 1 << 20;

inline int64_t round_down(int64_t at) { return at / kBlock * kBlock; }
inline int64_t round_up(int64_t at) { return round_down(at + kBlock - 1); }

struct File {
    int descriptor;
    bool is_direct;  // past the page cache
};

// araio.disk.reader.Check, in its order.
enum class Check { kNone, kF32, kBf16, kF16, kFp8, kScale };

// Bytes [offset, offset + size) of a file, into memory at target.
struct Piece {
    File file;
    int64_t offset;
    int64_t size;
    uint8_t* target;
    Check check;
};

// What araio.disk.native_reader makes an error of; `value` is what its cause says.
enum class Cause {
    kNone,
    kSystem,    // errno
    kShort,     // the bytes that the file gave of the piece
    kChecksum,  // the checksum that was found
    kNumber,    // index of the number in its piece
};

struct Failure {
    Cause cause = Cause::kNone;
    int64_t piece = 0;
    int64_t value = 0;
};

struct Record;

// Bytes [offset, offset + size) of a file, which are part of a piece.
struct Segment {
    Record* record;
    int64_t piece;
    int64_t offset;
    int64_t size;
};

// What came of a segment: the bytes that the disk gave for it, and what went wrong.
struct Outcome {
    int64_t read_bytes = 0;
    Failure failure;
};

struct Record {
    int64_t tag;
    std::vector<Piece> pieces;
    bool has_crc32;
    uint32_t crc32;

    // The rest belongs to the queue, under its lock.
    std::vector<Segment> segments;
    std::pair<bool, uint64_t> place;  // among those that wait: not urgent, number
    size_t begun = 0;
    size_t unfinished = 0;  // of those that have begun or still will
    int64_t failed_at = 0;  // offset in the piece of the failure
    Failure failure;
};

// The segments of a record's pieces. They end at whole blocks of the file, so all but the first and the last
// of a piece are aligned in it.
std::vector<Segment> cut(Record& record);

// Whether the bytes of a record, all read, are those that its checksum and its checks ask for.
Failure verify(const Record& record);

}  // namespace araio::disk
