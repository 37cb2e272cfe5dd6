// Feed-forward layers as Python calls them: objects with gate_proj, up_proj and down_proj, each a `Matrix`.

#include <algorithm>
#include <vector>

#include "bindings.h"
#include "experts.h"

namespace araio {
namespace {

using namespace nb::literals;

FeedForward layer_of(nb::handle object) {
    return {nb::cast<const Matrix&>(object.attr("gate_proj")),
            nb::cast<const Matrix&>(object.attr("up_proj")),
            nb::cast<const Matrix&>(object.attr("down_proj"))};
}

void require_shapes(const FeedForward& layer, int64_t D, int64_t F) {
    require(layer.gate.rows == F && layer.gate.columns == D, "gate_proj must be (F, D)");
    require(layer.up.rows == F && layer.up.columns == D, "up_proj must be (F, D)");
    require(layer.down.rows == D && layer.down.columns == F, "down_proj must be (D, F)");
}

void swiglu(const Operations& operations, Rows x, nb::handle weights, Output y) {
    require(y.shape(0) == x.shape(0) && y.shape(1) == x.shape(1), "y must have the shape of x");
    const std::vector<FeedForward> layers = {layer_of(weights)};
    const int64_t T = dim(x.shape(0)), D = dim(x.shape(1));
    require_shapes(layers[0], D, layers[0].gate.rows);
    Assignment all;
    for (int64_t t = 0; t < T; ++t) all.tokens.push_back(t);
    all.weights.assign(static_cast<size_t>(T), 1.0f);
    all.ends = {T};
    nb::gil_scoped_release unlocked;
    std::fill_n(y.data(), T * D, 0.0f);
    experts(operations, layers, all, x.data(), T, y.data());
}

// The distinct experts of a step, ascending.
std::vector<int32_t> distinct(Array<const int32_t, 2> ids) {
    std::vector<int32_t> found(ids.data(), ids.data() + ids.size());
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

// The tokens of each expert, in the order of `expert_ids`.
Assignment assign(Array<const int32_t, 2> ids, Array<const float, 2> weights,
                  const std::vector<int32_t>& expert_ids) {
    const size_t K = ids.shape(1);
    Assignment assignment = {std::vector<int64_t>(ids.size()), std::vector<float>(ids.size()),
                             std::vector<int64_t>(expert_ids.size())};
    const auto slot = [&](size_t i) {
        return std::lower_bound(expert_ids.begin(), expert_ids.end(), ids.data()[i]) - expert_ids.begin();
    };
    std::vector<int64_t>& ends = assignment.ends;
    for (size_t i = 0; i < ids.size(); ++i) ++ends[static_cast<size_t>(slot(i))];
    int64_t begin = 0;
    for (int64_t& end : ends) {  // counts become the place where each expert's next token goes
        begin += end;
        end = begin - end;
    }
    for (size_t i = 0; i < ids.size(); ++i) {
        const auto place = static_cast<size_t>(ends[static_cast<size_t>(slot(i))]++);
        assignment.tokens[place] = dim(i / K);
        assignment.weights[place] = weights.data()[i];
    }
    return assignment;
}

void routed(const Operations& operations, Rows x, Array<const int32_t, 2> ids, Array<const float, 2> weights,
            nb::handle by_id, Output y) {
    require(y.shape(0) == x.shape(0) && y.shape(1) == x.shape(1), "y must have the shape of x");
    require(ids.shape(0) == x.shape(0), "ids must have one row per token");
    require(weights.shape(0) == ids.shape(0) && weights.shape(1) == ids.shape(1),
            "weights must have the shape of ids");
    const std::vector<int32_t> expert_ids = distinct(ids);
    const int64_t T = dim(x.shape(0)), D = dim(x.shape(1));
    std::vector<FeedForward> layers;
    for (const int32_t id : expert_ids) {
        layers.push_back(layer_of(nb::object(by_id[nb::int_(id)])));
        require_shapes(layers.back(), D, layers[0].gate.rows);
    }
    const Assignment assignment = assign(ids, weights, expert_ids);
    nb::gil_scoped_release unlocked;
    std::fill_n(y.data(), T * D, 0.0f);
    experts(operations, layers, assignment, x.data(), T, y.data());
}

}  // namespace

void bind_experts(OperationsClass& operations) {
    operations
        .def("swiglu", &swiglu, "x"_a.noconvert(), "weights"_a, "y"_a.noconvert(),
             "Write one feed-forward layer of x (T, D) to y (T, D).")
        .def(
            "experts", &routed, "x"_a.noconvert(), "ids"_a.noconvert(), "weights"_a.noconvert(), "experts"_a,
            "y"_a.noconvert(),
            "Write the weighted sum of each token's experts to y (T, D); experts maps ids (T, K) to layers.");
}

}  // namespace araio
