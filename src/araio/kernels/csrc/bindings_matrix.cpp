// `Matrix` in Python: a stored matrix that operations multiply by. It refers to the arrays it is made from
// and keeps them alive.

#include <nanobind/stl/pair.h>

#include <utility>

#include "bindings.h"

namespace araio {
namespace {

using namespace nb::literals;

// Work is shared out in pieces of rows, by how many numbers they have, so there must be some.
void require_numbers(int64_t rows, int64_t columns) {
    require(rows > 0 && columns > 0, "a matrix must have rows and columns");
}

template <typename Number>
Matrix hold_plain(Codec codec, const Array<const Number, 2>& numbers) {
    const int64_t rows = dim(numbers.shape(0)), columns = dim(numbers.shape(1));
    require_numbers(rows, columns);
    return {codec, rows, columns, numbers.data(), nullptr, 0, 0};
}

Matrix hold_f32(Array<const float, 2> data) { return hold_plain(Codec::f32, data); }

Matrix hold_bf16(Array<const uint16_t, 2> bits) { return hold_plain(Codec::bf16, bits); }

Matrix hold_fp8(Array<const uint8_t, 2> codes, Array<const float, 2> scale, int64_t block_rows,
                int64_t block_columns) {
    const int64_t rows = dim(codes.shape(0)), columns = dim(codes.shape(1));
    require_numbers(rows, columns);
    require(block_rows > 0 && block_columns > 0 && block_columns % kFp8Group == 0,
            "blocks must have rows, and a multiple of 64 columns");
    require(dim(scale.shape(0)) == ceil_div(rows, block_rows) &&
                dim(scale.shape(1)) == ceil_div(columns, block_columns),
            "scale must have one number per block");
    return {Codec::fp8, rows, columns, codes.data(), scale.data(), block_rows, block_columns};
}

// Half-precision numbers come as their bits.
Matrix hold_tiles(int bits, Array<const uint8_t, 3> data, Array<const uint16_t, 3> scale, int64_t rows,
                  int64_t columns) {
    require(bits == 4 || bits == 8, "bits must be 4 or 8");
    require_numbers(rows, columns);
    const int64_t tiles = ceil_div(rows, kTileRows), blocks = ceil_div(columns, kBlockColumns);
    require(dim(data.shape(0)) == tiles && dim(data.shape(1)) == blocks &&
                dim(data.shape(2)) == kTileRows * kBlockColumns * bits / 8,
            "data must be (tiles, blocks, bytes of a block)");
    require(dim(scale.shape(0)) == tiles && dim(scale.shape(1)) == blocks && dim(scale.shape(2)) == kTileRows,
            "scale must be (tiles, blocks, 16)");
    return {bits == 4 ? Codec::q4 : Codec::q8, rows, columns, data.data(), scale.data(), 0, 0};
}

}  // namespace

void bind_matrices(nb::module_& module) {
    nb::class_<Matrix>(module, "Matrix", "A stored matrix that operations multiply by.")
        .def_prop_ro("shape",
                     [](const Matrix& matrix) { return std::make_pair(matrix.rows, matrix.columns); });
    module.def("hold_f32", &hold_f32, nb::keep_alive<0, 1>(), "data"_a.noconvert());
    module.def("hold_bf16", &hold_bf16, nb::keep_alive<0, 1>(), "bits"_a.noconvert());
    module.def("hold_fp8", &hold_fp8, nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(), "codes"_a.noconvert(),
               "scale"_a.noconvert(), "block_rows"_a, "block_columns"_a);
    module.def("hold_tiles", &hold_tiles, nb::keep_alive<0, 2>(), nb::keep_alive<0, 3>(), "bits"_a,
               "data"_a.noconvert(), "scale"_a.noconvert(), "rows"_a, "columns"_a);
}

}  // namespace araio
