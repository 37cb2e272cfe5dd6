#include "rope.h"

namespace araio {

void rotate(const View& x, int64_t T, int64_t H, int64_t R, const float* cos, const float* sin, float* y) {
    for (int64_t t = 0; t < T; ++t) {
        const float* const cosines = cos + t * (R / 2);
        const float* const sines = sin + t * (R / 2);
        for (int64_t h = 0; h < H; ++h, y += R) {
            for (int64_t i = 0; i < R / 2; ++i) {
                const float even = x.at(t, h, 2 * i), odd = x.at(t, h, 2 * i + 1);
                y[2 * i] = even * cosines[i] - odd * sines[i];
                y[2 * i + 1] = even * sines[i] + odd * cosines[i];
            }
        }
    }
}

}  // namespace araio
