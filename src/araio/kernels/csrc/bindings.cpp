// The Python module araio.kernels._native: checks what Python hands over, groups tokens by expert, and calls
// the table of the chosen instruction set with the interpreter's lock released.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "operations.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using araio::Batch;
using araio::FeedForward;
using araio::Operations;

template <typename Number, int kDims>
using Array = nb::ndarray<Number, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;
using Rows = Array<const float, 2>;
using Output = Array<float, 2>;

struct Isa {
    const char* name;
    const Operations* operations;
};

// What was compiled and this CPU can run, widest first.
const std::vector<Isa>& isas() {
    static const std::vector<Isa> available = [] {
        std::vector<Isa> found;
#ifdef ARAIO_X86
        if (__builtin_cpu_supports("avx512f")) found.push_back({"avx512", &araio::avx512::operations});
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
            found.push_back({"avx2", &araio::avx2::operations});
        }
#endif
        found.push_back({"baseline", &araio::baseline::operations});
        return found;
    }();
    return available;
}

const Operations& operations_for(const std::string& name) {
    for (const Isa& isa : isas()) {
        if (isa.name == name) return *isa.operations;
    }
    throw std::invalid_argument("this machine has no instruction set called " + name);
}

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

int64_t dim(size_t size) { return static_cast<int64_t>(size); }

void rms_norm(Rows x, Array<const float, 1> weight, float eps, Output y, const std::string& isa) {
    require(y.shape(0) == x.shape(0) && y.shape(1) == x.shape(1), "y must have the shape of x");
    require(weight.shape(0) == x.shape(1), "weight must have one number per column of x");
    const Operations& operations = operations_for(isa);
    nb::gil_scoped_release unlocked;
    operations.rms_norm(x.data(), weight.data(), eps, y.data(), dim(x.shape(0)), dim(x.shape(1)));
}

void linear_bf16(Rows x, Array<const uint16_t, 2> weight, Output y, const std::string& isa) {
    require(weight.shape(1) == x.shape(1), "weight must have one column per column of x");
    require(y.shape(0) == x.shape(0) && y.shape(1) == weight.shape(0),
            "y must be (rows of x, rows of weight)");
    const Operations& operations = operations_for(isa);
    nb::gil_scoped_release unlocked;
    operations.linear_bf16(x.data(), weight.data(), y.data(), dim(x.shape(0)), dim(weight.shape(0)),
                           dim(x.shape(1)));
}

// The tokens of each expert, in the order of `expert_ids`; a token appears once for each expert it chose.
struct Groups {
    std::vector<int64_t> tokens;
    std::vector<float> weights;
    std::vector<int64_t> ends;  // the first expert has [0, ends[0]), the next one [ends[0], ends[1])

    Groups(Array<const int32_t, 2> ids, Array<const float, 2> weights_TK,
           const std::vector<int32_t>& expert_ids)
        : tokens(ids.size()), weights(ids.size()), ends(expert_ids.size()) {
        const size_t K = ids.shape(1);
        std::vector<size_t> slots(ids.size());
        for (size_t i = 0; i < ids.size(); ++i) {
            const auto place = std::lower_bound(expert_ids.begin(), expert_ids.end(), ids.data()[i]);
            require(place != expert_ids.end() && *place == ids.data()[i],
                    "ids names an expert that was not given");
            slots[i] = static_cast<size_t>(place - expert_ids.begin());
            ++ends[slots[i]];
        }
        int64_t begin = 0;
        for (int64_t& end : ends) {  // counts become the place where each expert's next token goes
            begin += end;
            end = begin - end;
        }
        for (size_t i = 0; i < ids.size(); ++i) {
            const auto place = static_cast<size_t>(ends[slots[i]]++);
            tokens[place] = dim(i / K);
            weights[place] = weights_TK.data()[i];
        }
    }
};

template <typename Number>
using Matrices = std::vector<Array<const Number, 2>>;

template <typename Number>
void experts(void (*const Operations::*expert)(const float*, FeedForward<Number>, Batch, float*, float*),
             Rows x, Array<const int32_t, 2> ids, Array<const float, 2> weights,
             const std::vector<int32_t>& expert_ids, const Matrices<Number>& gate, const Matrices<Number>& up,
             const Matrices<Number>& down, Output y, const std::string& isa) {
    const size_t count = expert_ids.size(), D = x.shape(1);
    require(y.shape(0) == x.shape(0) && y.shape(1) == D, "y must have the shape of x");
    require(ids.shape(0) == x.shape(0), "ids must have one row per token");
    require(weights.shape(0) == ids.shape(0) && weights.shape(1) == ids.shape(1),
            "weights must have the shape of ids");
    require(std::is_sorted(expert_ids.begin(), expert_ids.end()), "expert_ids must ascend");
    require(gate.size() == count && up.size() == count && down.size() == count,
            "one matrix of each kind per expert");
    require(count > 0 || ids.size() == 0, "ids names an expert that was not given");
    if (count == 0) return;

    const size_t F = gate[0].shape(0);
    std::vector<FeedForward<Number>> layers;
    for (size_t e = 0; e < count; ++e) {
        require(gate[e].shape(0) == F && gate[e].shape(1) == D, "gate_proj must be (F, D)");
        require(up[e].shape(0) == F && up[e].shape(1) == D, "up_proj must be (F, D)");
        require(down[e].shape(0) == D && down[e].shape(1) == F, "down_proj must be (D, F)");
        layers.push_back({gate[e].data(), up[e].data(), down[e].data(), dim(D), dim(F)});
    }
    const Groups groups(ids, weights, expert_ids);
    const Operations& operations = operations_for(isa);

    nb::gil_scoped_release unlocked;
    std::vector<float> scratch(static_cast<size_t>(araio::expert_scratch(dim(D), dim(F))));
    int64_t begin = 0;
    for (size_t e = 0; e < count; begin = groups.ends[e], ++e) {
        const Batch batch = {groups.tokens.data() + begin, groups.weights.data() + begin,
                             groups.ends[e] - begin};
        (operations.*expert)(x.data(), layers[e], batch, scratch.data(), y.data());
    }
}

template <typename Number>
void bind_experts(nb::module_& module, const char* name,
                  void (*const Operations::*expert)(const float*, FeedForward<Number>, Batch, float*,
                                                    float*)) {
    module.def(
        name,
        [expert](Rows x, Array<const int32_t, 2> ids, Array<const float, 2> weights,
                 const std::vector<int32_t>& expert_ids, const Matrices<Number>& gate,
                 const Matrices<Number>& up, const Matrices<Number>& down, Output y, const std::string& isa) {
            experts<Number>(expert, x, ids, weights, expert_ids, gate, up, down, y, isa);
        },
        "x"_a.noconvert(), "ids"_a.noconvert(), "weights"_a.noconvert(), "expert_ids"_a, "gate"_a.noconvert(),
        "up"_a.noconvert(), "down"_a.noconvert(), "y"_a.noconvert(), "isa"_a,
        "Add each token's weighted experts to y (T, D); expert_ids ascend and cover ids (T, K).");
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "Compiled operations; see araio.kernels.native.";
    module.def(
        "isas",
        [] {
            std::vector<std::string> names;
            for (const Isa& isa : isas()) names.emplace_back(isa.name);
            return names;
        },
        "Instruction sets that were compiled and that this CPU has, widest first.");
    module.def("rms_norm", &rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "y"_a.noconvert(),
               "isa"_a, "Write the normalised rows of x (T, D) to y.");
    module.def("linear_bf16", &linear_bf16, "x"_a.noconvert(), "weight"_a.noconvert(), "y"_a.noconvert(),
               "isa"_a, "Write x (T, I) times the transpose of bfloat16 weight (O, I) to y (T, O).");
    bind_experts<float>(module, "experts_f32", &Operations::expert_f32);
    bind_experts<uint16_t>(module, "experts_bf16", &Operations::expert_bf16);
}
