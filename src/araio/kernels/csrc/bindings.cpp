// The Python module araio.kernels._native: the table of an instruction set as an object whose methods write
// into arrays that Python made. Everything handed over is checked here, and the interpreter's lock is
// released before the arithmetic starts.

#include "bindings.h"

#ifdef ARAIO_X86
#include <cpuid.h>
#endif
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "linear.h"
#include "thread_pool.h"

namespace araio {
namespace {

using namespace nb::literals;

constexpr int kMaxThreads = 1024;

struct Isa {
    const char* name;
    const Operations* operations;
};

#ifdef ARAIO_X86
// clang's __builtin_cpu_supports does not know the name.
bool has_f16c() {
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

// What was compiled and this CPU can run, widest first.
const std::vector<Isa>& isas() {
    static const std::vector<Isa> available = [] {
        std::vector<Isa> found;
#ifdef ARAIO_X86
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni")) {
            found.push_back({"avx512", &avx512::operations});
        }
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
            found.push_back({"avx2", &avx2::operations});
        }
#endif
        found.push_back({"baseline", &baseline::operations});
        return found;
    }();
    return available;
}

std::vector<std::string> isa_names() {
    std::vector<std::string> names;
    for (const Isa& isa : isas()) names.emplace_back(isa.name);
    return names;
}

const Operations& operations_for(const std::string& name) {
    for (const Isa& isa : isas()) {
        if (isa.name == name) return *isa.operations;
    }
    throw std::invalid_argument("this machine has no instruction set called " + name);
}

void set_threads(int threads, int64_t worth_sharing) {
    require(threads >= 1 && threads <= kMaxThreads, "threads must be from 1 to 1024");
    nb::gil_scoped_release unlocked;
    ThreadPool::shared().set_threads(threads, worth_sharing);
}

void embed(const Operations& operations, Array<const int64_t, 1> ids, const Matrix& weight, Output y) {
    require(y.shape(0) == ids.shape(0) && dim(y.shape(1)) == weight.columns,
            "y must be (ids, columns of weight)");
    const int64_t T = dim(ids.shape(0));
    for (int64_t t = 0; t < T; ++t) {
        require(ids.data()[t] >= 0 && ids.data()[t] < weight.rows, "ids must be rows of weight");
    }
    nb::gil_scoped_release unlocked;
    for (int64_t t = 0; t < T; ++t) {
        const int64_t id = ids.data()[t];
        operations.widen(weight, id, id + 1, y.data() + t * weight.columns);
    }
}

void rms_norm(const Operations& operations, Rows x, Array<const float, 1> weight, float eps, Output y) {
    require(y.shape(0) == x.shape(0) && y.shape(1) == x.shape(1), "y must have the shape of x");
    require(weight.shape(0) == x.shape(1), "weight must have one number per column of x");
    nb::gil_scoped_release unlocked;
    operations.rms_norm(x.data(), weight.data(), eps, y.data(), dim(x.shape(0)), dim(x.shape(1)));
}

void multiply(const Operations& operations, Rows x, const Matrix& weight, Output y) {
    require(dim(x.shape(1)) == weight.columns, "weight must have one column per column of x");
    require(y.shape(0) == x.shape(0) && dim(y.shape(1)) == weight.rows,
            "y must be (rows of x, rows of weight)");
    if (x.shape(0) == 0) return;
    nb::gil_scoped_release unlocked;
    linear(operations, weight, x.data(), dim(x.shape(0)), y.data());
}

}  // namespace
}  // namespace araio

NB_MODULE(_native, module) {
    using namespace araio;
    module.doc() = "Compiled operations; see araio.kernels.native.";
    module.def("isas", &isa_names,
               "Instruction sets that were compiled and that this CPU has, widest first.");
    module.def("operations", &operations_for, nb::rv_policy::reference, "isa"_a,
               "The operations of an instruction set.");
    module.def("set_threads", &set_threads, "threads"_a, "worth_sharing"_a = kWorthSharing,
               "Work on each operation with so many threads, the caller's included, if it multiplies "
               "`worth_sharing` times or more.");
    module.def("threads", [] { return ThreadPool::shared().threads(); });
    bind_matrices(module);

    OperationsClass operations(module, "Operations", "Functions of one instruction set.");
    operations
        .def("embed", &embed, "ids"_a.noconvert(), "weight"_a, "y"_a.noconvert(),
             "Write the rows of weight (W, D) that ids (T,) name to y (T, D).")
        .def("rms_norm", &rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "y"_a.noconvert(),
             "Write the normalised rows of x (T, D) to y.")
        .def("linear", &multiply, "x"_a.noconvert(), "weight"_a, "y"_a.noconvert(),
             "Write x (T, I) times the transpose of weight (O, I) to y (T, O).");
    bind_experts(operations);
    bind_attention(operations);
    bind_route(module, operations);
}
