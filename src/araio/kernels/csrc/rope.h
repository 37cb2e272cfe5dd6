// Rotary positions.
#pragma once

#include "view.h"

namespace araio {

// y (T, H, R) = the pairs of x (T, H, R), each turned by its token's angle      cos, sin (T, R / 2)
void rotate(const View& x, int64_t T, int64_t H, int64_t R, const float* cos, const float* sin, float* y);

}  // namespace araio
