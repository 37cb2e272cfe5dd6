// The router as Python calls it: a `Routing` made once of a config, then logits in, experts out.

#include <nanobind/stl/optional.h>

#include <limits>
#include <optional>

#include "bindings.h"
#include "route.h"

namespace araio {
namespace {

using namespace nb::literals;

Routing make_routing(bool is_sigmoid, int64_t n_group, int64_t topk_group, int64_t experts_per_token,
                     bool is_normalised, float factor) {
    require(n_group >= 1 && topk_group >= 1 && topk_group <= n_group, "topk_group must be from 1 to n_group");
    require(experts_per_token >= 1, "a token must use an expert");
    return {is_sigmoid, n_group, topk_group, experts_per_token, is_normalised, factor};
}

void choose(const Operations&, const Routing& routing, Rows logits, std::optional<Array<const float, 1>> bias,
            Array<int32_t, 2> ids, Output weights) {
    const int64_t T = dim(logits.shape(0)), E = dim(logits.shape(1)), K = routing.K;
    require(E >= K && E <= std::numeric_limits<int32_t>::max(), "logits must have K experts or more");
    require(E % routing.n_group == 0, "n_group must divide the experts");
    require(routing.is_sigmoid == bias.has_value(), "bias must be given for sigmoid, and only there");
    require(!bias || dim(bias->shape(0)) == E, "bias must have one number per expert");
    require(dim(ids.shape(0)) == T && dim(ids.shape(1)) == K, "ids must be (tokens, K)");
    require(dim(weights.shape(0)) == T && dim(weights.shape(1)) == K, "weights must be (tokens, K)");
    nb::gil_scoped_release unlocked;
    route(routing, logits.data(), bias ? bias->data() : nullptr, T, E, ids.data(), weights.data());
}

}  // namespace

void bind_route(nb::module_& module, OperationsClass& operations) {
    nb::class_<Routing>(module, "Routing", "The numbers of a config that decide between experts.");
    module.def("routing", &make_routing, "is_sigmoid"_a, "n_group"_a, "topk_group"_a, "experts_per_token"_a,
               "is_normalised"_a, "factor"_a);
    operations.def("route", &choose, "routing"_a, "logits"_a.noconvert(), "bias"_a.none().noconvert(),
                   "ids"_a.noconvert(), "weights"_a.noconvert(),
                   "Write the experts of logits (T, E) and their weights to ids and weights (T, K).");
}

}  // namespace araio
