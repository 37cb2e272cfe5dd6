// A matrix product on all threads.
#pragma once

#include "matrix.h"
#include "operations.h"

namespace araio {

// y = x weight^T      x (T, I), y (T, O)
void linear(const Operations& operations, const Matrix& weight, const float* x, int64_t T, float* y);

// Rows of a matrix in one item of work: whole tiles, several items per thread so that none waits long for
// another, and so few that a piece of weights is worth the trip.
int64_t rows_per_item(int64_t rows, int64_t columns, int threads);

}  // namespace araio
