// Looks for a number that no weight or scale can be.
#pragma once

#include "reads.h"

namespace araio::disk {

// Index of the first number among `size` bytes, at any address, that fails the check; -1 where all pass.
int64_t first_bad_number(const uint8_t* content, int64_t size, Check check);

}  // namespace araio::disk
