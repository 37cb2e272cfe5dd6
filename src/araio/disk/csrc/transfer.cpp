#include "transfer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

namespace araio::disk {
namespace {

const Piece& piece_of(const Segment& segment) { return segment.record->pieces[segment.piece]; }

uint8_t* target_of(const Segment& segment) {
    const Piece& piece = piece_of(segment);
    return piece.target + (segment.offset - piece.offset);
}

}  // namespace

Bounce::Bounce() : memory_(static_cast<uint8_t*>(std::aligned_alloc(kBlock, kSegment))) {
    if (!memory_) throw std::bad_alloc();
}

Transfer plan(const Segment& segment, const Bounce& bounce) {
    uint8_t* target = target_of(segment);
    const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(target));
    if (!piece_of(segment).file.is_direct || (segment.offset | segment.size | address) % kBlock == 0) {
        return {segment.offset, segment.size, target};
    }
    const int64_t begin = round_down(segment.offset);
    return {begin, round_up(segment.offset + segment.size) - begin, bounce.data()};
}

int64_t resume_at(const Segment& segment, int64_t got) {
    return piece_of(segment).file.is_direct ? round_down(got) : got;
}

Outcome settle(const Segment& segment, const Transfer& transfer, int64_t got, int error) {
    const Piece& piece = piece_of(segment);
    Outcome outcome;
    outcome.read_bytes = got;
    if (!piece.file.is_direct) {
        // Whole pages alone are given back, so the range is widened to them.
        const int64_t begin = round_down(segment.offset);
        posix_fadvise(piece.file.descriptor, begin, round_up(segment.offset + segment.size) - begin,
                      POSIX_FADV_DONTNEED);
    }
    if (error != 0) {
        outcome.failure = {Cause::kSystem, segment.piece, error};
        return outcome;
    }
    const int64_t margin = segment.offset - transfer.offset;
    const int64_t useful = std::clamp<int64_t>(got - margin, 0, segment.size);
    uint8_t* target = target_of(segment);
    if (transfer.memory != target) std::memcpy(target, transfer.memory + margin, useful);
    if (useful < segment.size) {
        outcome.failure = {Cause::kShort, segment.piece, segment.offset - piece.offset + useful};
    }
    return outcome;
}

Outcome read_segment(const Segment& segment, const Bounce& bounce) {
    const Transfer transfer = plan(segment, bounce);
    const int descriptor = piece_of(segment).file.descriptor;
    int64_t got = 0;
    while (got < transfer.size) {
        const int64_t at = resume_at(segment, got);
        const ssize_t size =
            pread(descriptor, transfer.memory + at, transfer.size - at, transfer.offset + at);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return settle(segment, transfer, got, errno);
        if (at + size <= got) break;  // the end of the file
        got = at + size;
    }
    return settle(segment, transfer, got, 0);
}

}  // namespace araio::disk
