// What the files of the Python module share: array types, checks, and the parts that they add to it.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "operations.h"

namespace araio {

namespace nb = nanobind;

template <typename Number, int kDims>
using Array = nb::ndarray<Number, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;
using Rows = Array<const float, 2>;
using Output = Array<float, 2>;

inline void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

inline int64_t dim(size_t size) { return static_cast<int64_t>(size); }

using OperationsClass = nb::class_<Operations>;

void bind_matrices(nb::module_& module);                            // bindings_matrix.cpp
void bind_experts(OperationsClass& operations);                     // bindings_experts.cpp
void bind_attention(OperationsClass& operations);                   // bindings_attention.cpp
void bind_route(nb::module_& module, OperationsClass& operations);  // bindings_route.cpp

}  // namespace araio
