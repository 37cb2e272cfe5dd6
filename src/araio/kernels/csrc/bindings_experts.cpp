// Feed-forward layers as Python calls them: objects with gate_proj, up_proj and down_proj, each a `Matrix`.

#include <algorithm>
#include <numeric>
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
    std::vector<int64_t> all(static_cast<size_t>(T));
    std::iota(all.begin(), all.end(), 0);
    nb::gil_scoped_release unlocked;
    expert_answers(operations, held.layers(), {all, all, {T}}, x.data(), T, y.data());
}

// The distinct experts of a step, ascending.
std::vector<int32_t> distinct(Array<const int32_t, 2> ids) {
    std::vector<int32_t> found(ids.data(), ids.data() + ids.size());
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

// Those experts of a mapping that the step chose, ascending.
std::vector<int32_t> chosen(nb::handle by_id, Array<const int32_t, 2> ids) {
    const int32_t *const begin = ids.data(), *const end = begin + ids.size();
    std::vector<int32_t> found;
    for (const nb::handle key : nb::iter(by_id)) {
        const auto id = nb::cast<int32_t>(key);
        if (std::find(begin, end, id) != end) found.push_back(id);
    }
    std::sort(found.begin(), found.end());
    return found;
}

// The entries of each expert, in the order of `expert_ids`; what the step chose beside them is left out.
Assignment assign(Array<const int32_t, 2> ids, const std::vector<int32_t>& expert_ids) {
    Assignment assignment = {{}, {}, std::vector<int64_t>(expert_ids.size())};
    std::vector<int64_t>& ends = assignment.ends;
    const auto for_entries = [&](const auto& visit) {
        for (size_t i = 0; i < ids.size(); ++i) {
            const int32_t id = ids.data()[i];
            const auto found = std::lower_bound(expert_ids.begin(), expert_ids.end(), id);
            if (found == expert_ids.end() || *found != id) continue;
            visit(dim(i), ends[static_cast<size_t>(found - expert_ids.begin())]);
        }
    };
    for_entries([](int64_t, int64_t& end) { ++end; });
    int64_t begin = 0;
    for (int64_t& end : ends) {  // counts become the index of each expert's next entry
        begin += end;
        end = begin - end;
    }
    assignment.tokens.resize(static_cast<size_t>(begin));
    assignment.places.resize(static_cast<size_t>(begin));
    const int64_t K = dim(ids.shape(1));
    for_entries([&](int64_t place, int64_t& end) {
        const auto entry = static_cast<size_t>(end++);
        assignment.tokens[entry] = place / K;
        assignment.places[entry] = place;
    });
    return assignment;
}

HeldLayers hold_experts(nb::handle by_id, const std::vector<int32_t>& expert_ids, int64_t D) {
    HeldLayers held;
    for (const int32_t id : expert_ids) {
        held.add(nb::object(by_id[nb::int_(id)]));
        require_shapes(held.layers().back(), D, held.layers().front().gate.rows);
    }
    return held;
}

void routed(const Operations& operations, Rows x, Array<const int32_t, 2> ids, Array<const float, 2> weights,
            nb::handle by_id, Output y) {
    require(y.shape(0) == x.shape(0) && y.shape(1) == x.shape(1), "y must have the shape of x");
    require(ids.shape(0) == x.shape(0), "ids must have one row per token");
    require(weights.shape(0) == ids.shape(0) && weights.shape(1) == ids.shape(1),
            "weights must have the shape of ids");
    const std::vector<int32_t> expert_ids = distinct(ids);
    const int64_t T = dim(x.shape(0)), D = dim(x.shape(1));
    const HeldLayers held = hold_experts(by_id, expert_ids, D);
    const Assignment assignment = assign(ids, expert_ids);
    nb::gil_scoped_release unlocked;
    std::fill_n(y.data(), T * D, 0.0f);
    experts(operations, held.layers(), assignment, weights.data(), x.data(), T, y.data());
}

void arrived(const Operations& operations, Rows x, Array<const int32_t, 2> ids, nb::handle by_id,
             Array<float, 3> answers) {
    require(ids.shape(0) == x.shape(0), "ids must have one row per token");
    require(answers.shape(0) == ids.shape(0) && answers.shape(1) == ids.shape(1) &&
                answers.shape(2) == x.shape(1),
            "answers must have one row of x for each of ids");
    const std::vector<int32_t> expert_ids = chosen(by_id, ids);
    const HeldLayers held = hold_experts(by_id, expert_ids, dim(x.shape(1)));
    const Assignment assignment = assign(ids, expert_ids);
    nb::gil_scoped_release unlocked;
    expert_answers(operations, held.layers(), assignment, x.data(), dim(x.shape(0)), answers.data());
}

void combine(const Operations& operations, Array<const float, 3> answers, Array<const int32_t, 2> ids,
             Array<const float, 2> weights, Output y) {
    require(ids.shape(0) == answers.shape(0) && ids.shape(1) == answers.shape(1),
            "ids must have one number per answer");
    require(weights.shape(0) == ids.shape(0) && weights.shape(1) == ids.shape(1),
            "weights must have the shape of ids");
    require(y.shape(0) == answers.shape(0) && y.shape(1) == answers.shape(2), "y must be (T, D)");
    nb::gil_scoped_release unlocked;
    combine_experts(operations, answers.data(), ids.data(), weights.data(), dim(ids.shape(0)),
                    dim(ids.shape(1)), dim(y.shape(1)), y.data());
}

}  // namespace

void bind_experts(OperationsClass& operations) {
    operations
        .def("swiglu", &swiglu, "x"_a.noconvert(), "weights"_a, "y"_a.noconvert(),
             "Write one feed-forward layer of x (T, D) to y (T, D).")
        .def("experts", &routed, "x"_a.noconvert(), "ids"_a.noconvert(), "weights"_a.noconvert(), "experts"_a,
             "y"_a.noconvert(),
             "Write the weighted sum of each token's experts to y (T, D); experts maps ids (T, K) to layers.")
        .def("expert_answers", &arrived, "x"_a.noconvert(), "ids"_a.noconvert(), "experts"_a,
             "answers"_a.noconvert(),
             "Write the answer of each of these experts to answers (T, K, D), where ids (T, K) name it.")
        .def("combine_experts", &combine, "answers"_a.noconvert(), "ids"_a.noconvert(),
             "weights"_a.noconvert(), "y"_a.noconvert(),
             "Write the weighted sum of each token's answers (T, K, D) to y (T, D), by ascending id.");
}

}  // namespace araio
