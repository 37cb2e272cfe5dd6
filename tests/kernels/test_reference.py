"""The reference against formulas written out naively, and its tiles against the whole."""

import numpy as np
import pytest
import torch

from araio.codecs import codec
from araio.codecs.integers import unpack_rows
from araio.kernels import reference, reference_attention
from araio.kernels.ops import PAGE, FeedForward, Latents
from araio.kernels.widen import widen
from araio.tensors import Float32Array, Quantized, Weight

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NARROW = [codec(name).encode for name in ("f32", "bf16", "fp8")]


def randn(*shape: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def test_rms_norm_is_torchs() -> None:
    x, weight = randn(5, 48) * 30, randn(48)
    expected = torch.nn.functional.rms_norm(torch.from_numpy(x), (48,), torch.from_numpy(weight), 1e-6)
    np.testing.assert_allclose(reference.rms_norm(x, weight, 1e-6), expected, **CLOSE)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_linear_and_embed_multiply_by_what_is_stored(narrow, tokens: int, monkeypatch) -> None:
    monkeypatch.setattr(reference, "TEMPORARY_NUMBERS", 4000)  # several tiles of rows
    weight: Weight = narrow(randn(300, 40))
    x = randn(tokens, 40)
    np.testing.assert_allclose(reference.linear(x, weight), x @ widen(weight).T, **CLOSE)
    ids = np.arange(tokens) * 41
    np.testing.assert_array_equal(reference.embed(ids, weight), widen(weight)[ids])


def product_by_formula(x: Float32Array, weight: Quantized) -> Float32Array:
    """`Ops.linear` for integers, one number at a time: quantised activations, exact blocks, in order."""
    rows, columns = weight.shape
    blocks = -(-columns // 32)
    x = np.pad(x, [(0, 0), (0, blocks * 32 - columns)]).reshape(len(x), blocks, 32)
    integers, scales = unpack_rows(weight, np.arange(rows))
    y = np.zeros((len(x), rows), np.float32)
    for t, o, b in np.ndindex(len(x), rows, blocks):
        scale = np.abs(x[t, b]).max() / np.float32(127)
        rounded = np.rint(x[t, b] / scale).astype(int) if scale else np.zeros(32, int)
        y[t, o] += np.float32(rounded @ integers[o, b].astype(int)) * (scales[o, b] * scale)
    return y


@pytest.mark.parametrize("name", ["q8", "q4"])
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_a_product_of_integers_is_its_formula(name: str, tokens: int, monkeypatch) -> None:
    monkeypatch.setattr(reference, "TEMPORARY_NUMBERS", 2000)
    weight: Quantized = codec(name).encode(randn(37, 70))
    x = randn(tokens, 70)
    x[:, 32:64] = 0  # a block whose scale is zero
    np.testing.assert_array_equal(reference.linear(x, weight), product_by_formula(x, weight))
    ids = np.arange(tokens) * 11
    np.testing.assert_array_equal(reference.embed(ids, weight), widen(weight)[ids])


@pytest.mark.parametrize("name", ["q8", "q4"])
def test_quantised_activations_cost_little(name: str) -> None:
    weight: Quantized = codec(name).encode(randn(64, 512))
    x = randn(5, 512)
    exact = x @ widen(weight).T
    assert np.abs(reference.linear(x, weight) - exact).max() < 0.02 * np.abs(exact).max()


def test_activations_of_any_size_are_quantised() -> None:
    x = np.array([[0, 1e-45], [3e-44, -1e-44], [3e38, -1e38], [np.nan, 1]], np.float32)
    integers, scale = reference.quantize_activations(x)
    assert np.abs(integers).max() <= 127
    np.testing.assert_array_equal(integers[2, 0, :2], [127, -42])
    assert np.isfinite(scale).tolist() == [[True], [True], [True], [False]]
    y = reference.linear(x, codec("q8").encode(randn(3, 2)))
    assert np.isnan(y[3]).all()
    assert np.isfinite(y[:3]).all()


def test_rope_rotates_pairs_as_complex_numbers() -> None:
    x, angles = randn(6, 3, 8), randn(6, 4) * 100
    pairs = x.reshape(6, 3, 4, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)[:, None]
    expected = np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
    np.testing.assert_allclose(reference.rope(x, np.cos(angles), np.sin(angles)), expected, **CLOSE)


def test_swiglu_is_torchs() -> None:
    weights = FeedForward(randn(20, 12), randn(20, 12, seed=1), randn(12, 20))
    x = torch.from_numpy(randn(4, 12))
    gate, up, down = (torch.from_numpy(w) for w in vars(weights).values())
    expected = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T
    np.testing.assert_allclose(reference.swiglu(x.numpy(), weights), expected, **CLOSE)


def test_sigmoid_keeps_its_precision_at_both_ends() -> None:
    x = np.array([-200, -80, -20, 0, 20, 200], np.float32)
    with np.errstate(under="raise", over="raise"):
        np.testing.assert_allclose(
            reference.sigmoid(x[1:5]), 1 / (1 + np.exp(-x[1:5].astype(float))), rtol=1e-6
        )
    np.testing.assert_array_equal(reference.sigmoid(x[[0, 5]]), [0, 1])


@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_experts_are_the_weighted_sum_of_each_token_alone(tokens: int) -> None:
    experts = {
        e: FeedForward(randn(9, 6, seed=e), randn(9, 6, seed=e + 9), randn(6, 9, seed=e)) for e in range(4)
    }
    x, weights = randn(tokens, 6), randn(tokens, 2)
    ids = np.array([[3, 0], [1, 3], [0, 1], [3, 1], [2, 0]], np.int32)[:tokens]
    expected = np.zeros_like(x)
    for t, k in np.ndindex(tokens, 2):
        expected[t] += weights[t, k] * reference.swiglu(x[t : t + 1], experts[int(ids[t, k])])[0]
    np.testing.assert_allclose(reference.experts(x, ids, weights, experts), expected, **CLOSE)


H, N, R, V, C = 3, 5, 4, 6, 7


def attention_inputs(T: int, S: int) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array, float]:
    return randn(T, H, N), randn(T, H, R), randn(S, C + R), randn(H * (N + V), C), 0.3


def paged(latent: Float32Array, tokens: int) -> Latents:
    """The same latents in pages that lie backwards, among pages of others."""
    count = -(-len(latent) // PAGE)
    pages, table = np.full((count + 2, PAGE, C + R), np.nan, np.float32), np.arange(count, -1, -1)
    slots = table[np.arange(len(latent)) // PAGE] * PAGE + np.arange(len(latent)) % PAGE
    reference.store_latents(latent[:, :C], latent[:, C:], slots, pages)
    return Latents.of_one(pages, table, len(latent), tokens)


def naive_attention(q_nope, q_pe, latent, kv_b_proj, scale) -> Float32Array:
    T, S = len(q_nope), len(latent)
    y = np.zeros((T, H, V))
    for t, h in np.ndindex(T, H):
        w_uk, w_uv = kv_b_proj.reshape(H, N + V, C)[h, :N], kv_b_proj.reshape(H, N + V, C)[h, N:]
        seen = latent[: S - T + t + 1].astype(float)
        scores = scale * (seen[:, :C] @ w_uk.T @ q_nope[t, h] + seen[:, C:] @ q_pe[t, h])
        attention = np.exp(scores - scores.max())
        y[t, h] = attention / attention.sum() @ (seen[:, :C] @ w_uv.T)
    return y


@pytest.mark.parametrize("form", [reference.mla_prefill, reference.mla_decode])
@pytest.mark.parametrize("temporary", [1, 200, 1 << 22])
@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 9), (4, 4), (5, 12), (3, 300)])
def test_both_forms_of_attention_are_the_naive_one(form, temporary, T, S, monkeypatch) -> None:
    monkeypatch.setattr(reference_attention, "TEMPORARY_NUMBERS", temporary)
    q_nope, q_pe, latent, *rest = inputs = attention_inputs(T, S)
    np.testing.assert_allclose(form(q_nope, q_pe, paged(latent, T), *rest), naive_attention(*inputs), **CLOSE)


@pytest.mark.parametrize("form", [reference.mla_prefill, reference.mla_decode])
def test_sequences_see_nothing_of_each_other(form) -> None:
    tokens, lengths = [3, 0, 1, 2], [5, 2, 300, 2]
    q_nope, q_pe, _, kv_b_proj, scale = attention_inputs(sum(tokens), 1)
    own = [randn(length, C + R, seed=length) for length in lengths]
    pages, starts = np.zeros((6, PAGE, C + R), np.float32), [0, 1, 2, 5]
    for start, latent in zip(starts, own, strict=True):
        pages.reshape(-1, C + R)[start * PAGE :][: len(latent)] = latent
    tables = np.array(starts)[:, None] + np.arange(3)
    latents = Latents(pages, tables, np.array(lengths), np.array(tokens))
    y = form(q_nope, q_pe, latents, kv_b_proj, scale)
    stop = 0
    for latent, count in zip(own, tokens, strict=True):
        rows, stop = slice(stop, stop + count), stop + count
        expected = naive_attention(q_nope[rows], q_pe[rows], latent, kv_b_proj, scale)
        np.testing.assert_allclose(y[rows], expected, **CLOSE)


@pytest.mark.parametrize("form", [reference.mla_prefill, reference.mla_decode])
@pytest.mark.parametrize("S", [0, 3])
def test_attention_of_no_token_is_empty(form, S: int) -> None:
    q_nope, q_pe, latent, *rest = attention_inputs(0, S)
    assert form(q_nope, q_pe, paged(latent, 0), *rest).shape == (0, H, V)


def test_attention_survives_scores_beyond_the_range_of_exp() -> None:
    q_nope, q_pe, latent, kv_b_proj, _ = attention_inputs(2, 5)
    for form in (reference.mla_prefill, reference.mla_decode):
        assert np.isfinite(form(q_nope, q_pe, paged(latent, 2), kv_b_proj, 1e4)).all()
