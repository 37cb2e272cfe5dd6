// Attention and rotary positions as Python calls them. Queries may lie in any way, for they are slices of one
// matrix's output.

#include <vector>

#include "attention.h"
#include "bindings.h"
#include "latents.h"
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

// Pages of latents (pages, kPage, C + R) as they lie in the cache, of floats or of the bits of bfloat16.
template <typename... Access>
using Pages = nb::ndarray<nb::ndim<3>, nb::c_contig, nb::device::cpu, Access...>;

template <typename... Access>
Codec codec_of(const Pages<Access...>& pages, int64_t width) {
    require(dim(pages.shape(1)) == kPage, "pages must be (pages, 128, width of a latent)");
    require(dim(pages.shape(2)) == width, "a latent must have a number per column of kv_b_proj and of q_pe");
    if (pages.dtype() == nb::dtype<float>()) return Codec::f32;
    require(pages.dtype() == nb::dtype<uint16_t>(), "pages must be float32, or bfloat16 as uint16");
    return Codec::bf16;
}

using Table = Array<const int64_t, 1>;

void store_latents(const Operations&, Rows c_kv, Rows k_pe, Table slots, Pages<> pages) {
    const int64_t T = dim(c_kv.shape(0)), C = dim(c_kv.shape(1)), R = dim(k_pe.shape(1));
    require(dim(k_pe.shape(0)) == T && dim(slots.shape(0)) == T, "c_kv, k_pe and slots must be as many");
    const Codec codec = codec_of(pages, C + R);
    const int64_t positions = dim(pages.shape(0)) * kPage;
    for (int64_t t = 0; t < T; ++t) {
        require(slots.data()[t] >= 0 && slots.data()[t] < positions, "slots must be positions of pages");
    }
    nb::gil_scoped_release unlocked;
    store(c_kv.data(), k_pe.data(), T, C, R, slots.data(), codec, pages.data());
}

// The sequences of a call, checked: who has no query is left out.
std::vector<Sequence> sequences_of(const Array<const int64_t, 2>& tables, const Table& lengths,
                                   const Table& tokens, int64_t T, int64_t pages) {
    const int64_t count = dim(tokens.shape(0)), width = dim(tables.shape(1));
    require(dim(lengths.shape(0)) == count && dim(tables.shape(0)) == count,
            "tables, lengths and tokens must be as many");
    std::vector<Sequence> sequences;
    int64_t first = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t own = tokens.data()[i], S = lengths.data()[i];
        const int64_t* const table = tables.data() + i * width;
        require(own >= 0 && own <= T - first, "tokens must add up to the queries");
        require(S >= own, "there must be a position for every token");
        require(S <= width * kPage, "tables must have a page for every 128 positions");
        for (int64_t run = 0; run < ceil_div(S, kPage); ++run) {
            require(table[run] >= 0 && table[run] < pages, "tables must hold pages");
        }
        if (own > 0) sequences.push_back({first, own, S, table});
        first += own;
    }
    require(first == T, "tokens must add up to the queries");
    return sequences;
}

template <void (*attend)(const Operations&, const Attention&, float*)>
void attention(const Operations& operations, Heads q_nope, Heads q_pe, Pages<nb::ro> pages,
               Array<const int64_t, 2> tables, Table lengths, Table tokens, const Matrix& kv_b_proj,
               float scale, Array<float, 3> y) {
    const int64_t T = dim(q_nope.shape(0)), H = dim(q_nope.shape(1));
    const int64_t N = dim(q_nope.shape(2)), R = dim(q_pe.shape(2)), V = dim(y.shape(2));
    const int64_t C = kv_b_proj.columns;
    require(dim(q_pe.shape(0)) == T && dim(q_pe.shape(1)) == H,
            "q_pe must have the tokens and heads of q_nope");
    require(dim(y.shape(0)) == T && dim(y.shape(1)) == H, "y must have the tokens and heads of q_nope");
    require(kv_b_proj.rows == H * (N + V), "kv_b_proj must have a row per number of a head's key and value");
    const Codec codec = codec_of(pages, C + R);
    Attention given = {T,  H,          N,    R, V, C, view_of(q_nope), view_of(q_pe), codec, pages.data(),
                       {}, &kv_b_proj, scale};
    given.sequences = sequences_of(tables, lengths, tokens, T, dim(pages.shape(0)));
    if (T * H == 0) return;
    nb::gil_scoped_release unlocked;
    attend(operations, given, y.data());
}

}  // namespace

void bind_attention(OperationsClass& operations) {
    operations
        .def("rope", &rope, "x"_a.noconvert(), "cos"_a.noconvert(), "sin"_a.noconvert(), "y"_a.noconvert(),
             "Write x (T, H, R), rotated by the angles of its tokens (T, R / 2), to y (T, H, R).")
        .def("store_latents", &store_latents, "c_kv"_a.noconvert(), "k_pe"_a.noconvert(),
             "slots"_a.noconvert(), "pages"_a.noconvert(),
             "Write c_kv (T, C) and k_pe (T, R) to the positions that slots (T,) count from the first page "
             "on.")
        .def("mla_decode", &attention<mla_decode>, "q_nope"_a.noconvert(), "q_pe"_a.noconvert(),
             "pages"_a.noconvert(), "tables"_a.noconvert(), "lengths"_a.noconvert(), "tokens"_a.noconvert(),
             "kv_b_proj"_a, "scale"_a, "y"_a.noconvert(),
             "Write what queries (T, H, N) and (T, H, R) of some sequences find in their positions to y "
             "(T, H, V): absorbed.")
        .def("mla_prefill", &attention<mla_prefill>, "q_nope"_a.noconvert(), "q_pe"_a.noconvert(),
             "pages"_a.noconvert(), "tables"_a.noconvert(), "lengths"_a.noconvert(), "tokens"_a.noconvert(),
             "kv_b_proj"_a, "scale"_a, "y"_a.noconvert(), "The same in the expanded form.");
}

}  // namespace araio
