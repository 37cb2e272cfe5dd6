// The functions behind the table of an instruction set, by the file that holds them.
#pragma once

#include "operations.h"
#include "simd.h"

namespace araio::ARAIO_ISA {

// row_major.cpp
void multiply_f32(const Matrix&, const Activations&, const int64_t*, int64_t, int64_t, int64_t, float*,
                  int64_t);
void multiply_bf16(const Matrix&, const Activations&, const int64_t*, int64_t, int64_t, int64_t, float*,
                   int64_t);
void multiply_fp8(const Matrix&, const Activations&, const int64_t*, int64_t, int64_t, int64_t, float*,
                  int64_t);
void to_fp8_order(const float* x, int64_t T, int64_t I, float* values);

// add_rows.cpp
void add_rows_f32(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                  float* y);
void add_rows_bf16(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                   float* y);
void add_rows_fp8(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                  float* y);

// tiles.cpp
void multiply_q8(const Matrix&, const Activations&, const int64_t*, int64_t, int64_t, int64_t, float*,
                 int64_t);
void multiply_q4(const Matrix&, const Activations&, const int64_t*, int64_t, int64_t, int64_t, float*,
                 int64_t);
void to_integers(const float* x, int64_t T, int64_t I, int8_t* integers, float* scales, int32_t* sums);

// attention_pieces.cpp
void attend(const Queries& queries, const Positions<float>& positions, float* scratch);
void attend_bf16(const Queries& queries, const Positions<uint16_t>& positions, float* scratch);
void no_sums(int64_t count, int64_t Y, float* sums);
void merge_sums(const float* more, int64_t count, int64_t Y, float* sums);
void average(const float* sums, int64_t count, int64_t Y, float* y, int64_t stride);

// widen.cpp
void widen(const Matrix& weight, int64_t begin, int64_t end, float* y);

// tiles_float.cpp
void dot_tiles(const Matrix& weight, int64_t begin, int64_t end, const Activations& x, int64_t count,
               float* y, int64_t stride);
void add_rows_q8(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                 float* y);
void add_rows_q4(const Matrix& weight, int64_t begin, int64_t end, const float* factors, int64_t count,
                 float* y);

}  // namespace araio::ARAIO_ISA
