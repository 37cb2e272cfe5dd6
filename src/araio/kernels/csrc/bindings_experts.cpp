// Feed-forward layers as Python calls them: objects with gate_proj, up_proj and down_proj, each a `Matrix`.

#include <algorithm>
#include <utility>
#include <vector>

#include "bindings.h"
#include "experts.h"

namespace araio {
namespace {

using namespace nb::literals;

// Layers, with the Python matrices that own their numbers: a mapping may have made them just now, and without
// the interpreter's lock another thread may take them out of it.
class HeldLayers {
  public:
    void add(nb::handle layer) {
        layers_.push_back(
            {held(layer.attr("gate_proj")), held(layer.attr("up_proj")), held(layer.attr("down_proj"))});
    }
    const std::vector<FeedForward>& layers() const { return layers_; }

  private:
    const Matrix& held(nb::object matrix) {
        owners_.push_back(std::move(matrix));
        return nb::cast<const Matrix&>(owners_.back());
    }

    std::vector<nb::object> owners_;
    std::vector<FeedForward> layers_;
};

void require_shapes(const FeedForward& layer, int64_t D, int64_t F) {
    require(layer.gate.rows == F && layer.gate.columns == D, "gate_proj must be (F, D)");
    require(layer.up.rows == F && layer.up.columns == D, "up_proj must be (F, D)");
    require(layer.down.rows == D && layer.down.columns == F, "down_proj must be (D, F)");
}

void swiglu(const Operations& operations, Rows x, nb::handle weights, Output y) {
    require(y.shape(0) == x.shape(0) && y.shape(1) == x.shape(1), "y must have the shape of x");
    HeldLayers held;
    held.add(weights);
    const FeedForward& layer = held.layers().front();
    const int64_t T = dim(x.shape(0)), D = dim(x.shape(1));
    require_shapes(layer, D, layer.gate.rows);
    Assignment all;
    for (int64_t t = 0; t < T; ++t) all.tokens.push_back(t);
    all.weights.assign(static_cast<size_t>(T), 1.0f);
    all.ends = {T};
    nb::gil_scoped_release unlocked;
    std::fill_n(y.data(), T * D, 0.0f);
    experts(operations, held.layers(), all, x.data(), T, y.data());
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
    HeldLayers held;
    for (const int32_t id : expert_ids) {
        held.add(nb::object(by_id[nb::int_(id)]));
        require_shapes(held.layers().back(), D, held.layers().front().gate.rows);
    }
    const Assignment assignment = assign(ids, weights, expert_ids);
    nb::gil_scoped_release unlocked;
    std::fill_n(y.data(), T * D, 0.0f);
    experts(operations, held.layers(), assignment, x.data(), T, y.data());
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
