// The checksum of zlib, gzip and PNG: CRC-32 with the polynomial 0xEDB88320.
#pragma once

#include <cstdint>

namespace araio::disk {

// The checksum of bytes that follow those whose checksum is `crc`, 0 before the first.
uint32_t crc32(uint32_t crc, const uint8_t* content, int64_t size);

// The same by tables alone, for any CPU.
uint32_t crc32_by_tables(uint32_t crc, const uint8_t* content, int64_t size);

}  // namespace araio::disk
