// Attention and rotary positions as Python calls them. Queries may lie in any way, for they are slices of one
// matrix's output.

#include "attention.h"
#include "bindings.h"
#include "rope.h"

namespace araio {
namespace {

using namespace nb::literals;

using Heads = nb::ndarray<const float, nb::ndim<3>, nb::device::cpu>;

View view_of(const Heads& heads) {
    return {heads.data(), {heads.stride(0), heads.stride(1), heads.stride(2)}};
}

void rope(const Operations&, Heads x, Rows cos, Rows sin, Array<float, 3> y) {
    const int64_t T = dim(x.shape(0)), H = dim(x.shape(1)), R = dim(x.shape(2));
    require(dim(y.shape(0)) == T && dim(y.shape(1)) == H && dim(y.shape(2)) == R,
            "y must have the shape of x");
    require(R % 2 == 0, "x must have pairs of numbers");
    require(dim(cos.shape(0)) == T && dim(cos.shape(1)) == R / 2, "cos must be (tokens, pairs)");
    require(dim(sin.shape(0)) == T && dim(sin.shape(1)) == R / 2, "sin must be (tokens, pairs)");
    nb::gil_scoped_release unlocked;
    rotate(view_of(x), T, H, R, cos.data(), sin.data(), y.data());
}

Attention attention_of(const Heads& q_nope, const Heads& q_pe, const Rows& latent, const Matrix& kv_b_proj,
                       float scale, const Array<float, 3>& y) {
    const int64_t T = dim(q_nope.shape(0)), H = dim(q_nope.shape(1)), S = dim(latent.shape(0));
    const int64_t N = dim(q_nope.shape(2)), R = dim(q_pe.shape(2)), V = dim(y.shape(2));
    const int64_t C = kv_b_proj.columns;
    require(dim(q_pe.shape(0)) == T && dim(q_pe.shape(1)) == H,
            "q_pe must have the tokens and heads of q_nope");
    require(dim(y.shape(0)) == T && dim(y.shape(1)) == H, "y must have the tokens and heads of q_nope");
    require(kv_b_proj.rows == H * (N + V), "kv_b_proj must have a row per number of a head's key and value");
    require(dim(latent.shape(1)) == C + R,
            "latent must be (positions, columns of kv_b_proj + width of q_pe)");
    require(S >= T, "latent must have a position for every token");
    return {T, H, N, R, V, C, S, view_of(q_nope), view_of(q_pe), latent.data(), &kv_b_proj, scale};
}

template <void (*attend)(const Operations&, const Attention&, float*)>
void attention(const Operations& operations, Heads q_nope, Heads q_pe, Rows latent, const Matrix& kv_b_proj,
               float scale, Array<float, 3> y) {
    const Attention given = attention_of(q_nope, q_pe, latent, kv_b_proj, scale, y);
    if (given.T * given.H == 0) return;
    nb::gil_scoped_release unlocked;
    attend(operations, given, y.data());
}

}  // namespace

void bind_attention(OperationsClass& operations) {
    operations
        .def("rope", &rope, "x"_a.noconvert(), "cos"_a.noconvert(), "sin"_a.noconvert(), "y"_a.noconvert(),
             "Write x (T, H, R), rotated by the angles of its tokens (T, R / 2), to y (T, H, R).")
        .def("mla_decode", &attention<mla_decode>, "q_nope"_a.noconvert(), "q_pe"_a.noconvert(),
             "latent"_a.noconvert(), "kv_b_proj"_a, "scale"_a, "y"_a.noconvert(),
             "Write what queries (T, H, N) and (T, H, R) find in latent (S, C + R) to y (T, H, V): absorbed.")
        .def("mla_prefill", &attention<mla_prefill>, "q_nope"_a.noconvert(), "q_pe"_a.noconvert(),
             "latent"_a.noconvert(), "kv_b_proj"_a, "scale"_a, "y"_a.noconvert(),
             "The same in the expanded form.");
}

}  // namespace araio
