// `View`: an array as Python may hand it over, a slice of another one.
#pragma once

#include <stdint.h>

namespace araio {

// Floats in three dimensions, however they lie.
struct View {
    const float* data;
    int64_t strides[3];

    float at(int64_t a, int64_t b, int64_t c) const {
        return data[a * strides[0] + b * strides[1] + c * strides[2]];
    }
};

}  // namespace araio
