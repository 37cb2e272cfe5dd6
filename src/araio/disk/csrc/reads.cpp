#include "reads.h"

#include <algorithm>

#include "crc32.h"
#include "numbers.h"

namespace araio::disk {

std::vector<Segment> cut(Record& record) {
    std::vector<Segment> segments;
    for (size_t p = 0; p < record.pieces.size(); ++p) {
        const Piece& piece = record.pieces[p];
        const int64_t end = piece.offset + piece.size;
        const int64_t begin = round_down(piece.offset);
        const int64_t count = std::max<int64_t>((round_up(end) - begin + kSegment - 1) / kSegment, 1);
        const int64_t step = round_up((round_up(end) - begin + count - 1) / count);  // alike, none a crumb
        for (int64_t from = piece.offset; from < end;) {
            const int64_t to = std::min(end, begin + ((from - begin) / step + 1) * step);
            segments.push_back({&record, static_cast<int64_t>(p), from, to - from});
            from = to;
        }
    }
    return segments;
}

Failure verify(const Record& record) {
    if (record.has_crc32) {
        uint32_t crc = 0;
        for (const Piece& piece : record.pieces) crc = crc32(crc, piece.target, piece.size);
        if (crc != record.crc32) return {Cause::kChecksum, 0, crc};
    }
    for (size_t p = 0; p < record.pieces.size(); ++p) {
        const Piece& piece = record.pieces[p];
        const int64_t index = first_bad_number(piece.target, piece.size, piece.check);
        if (index >= 0) return {Cause::kNumber, static_cast<int64_t>(p), index};
    }
    return {};
}

}  // namespace araio::disk
