"""The definition of every operation of `ops.Ops` in plain NumPy: complete, readable, the test of the others.

It favours few large array operations, so that a small model runs fast, and it bounds its temporaries, so that
a long prompt or a large matrix fits; attention alone widens one whole weight, `kv_b_proj`. Contracts and
formulas are in `ops.py`. A product with a `Quantized` weight quantises the activations too: see
`_integer_linear`. Read `native.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from araio.codecs.integers import unpack_rows
from araio.config import ModelConfig
from araio.kernels.ops import (
    PAGE,
    FeedForward,
    Int32Array,
    Int64Array,
    IntArray,
    LatentPages,
    Latents,
    Ops,
)
from araio.kernels.widen import row_multiple, rows_at, rows_of, widen
from araio.tensors import BLOCK_COLUMNS, BFloat16, Float32Array, Quantized, Weight

__all__ = ["OPS"]

# Numbers in one temporary array (16 MiB of float32): 512 queries over 8,192 positions took 130 ms on a core,
# 160 ms with four times as many, which leave the cache, and 180 ms with a quarter, which makes thin products.
TEMPORARY_NUMBERS = 1 << 22


def hold(weight: Weight) -> Weight:
    return weight


def embed(ids: IntArray, weight: Weight) -> Float32Array:
    return rows_at(weight, ids)


def rms_norm(x: Float32Array, weight: Float32Array, eps: float) -> Float32Array:
    mean_square: Float32Array = np.vecdot(x, x)[:, None] / np.float32(x.shape[1])
    factor: Float32Array = np.float32(1) / np.sqrt(mean_square + np.float32(eps))
    return x * factor * weight


def linear(x: Float32Array, weight: Weight) -> Float32Array:
    if isinstance(weight, np.ndarray):
        return x @ weight.T
    if isinstance(weight, Quantized):
        return _integer_linear(x, weight)
    y = np.empty((len(x), weight.shape[0]), np.float32)
    for start, stop in _row_tiles(weight):
        np.matmul(x, rows_of(weight, start, stop).T, out=y[:, start:stop])
    return y


def _integer_linear(x: Float32Array, weight: Quantized) -> Float32Array:
    """A product of integers: activations are quantised per token and block of 32 columns, as weights are.

    `y = sum over blocks of (q_x . q_w) * (scale_w * scale_x)`; the inner product is exact, and blocks are
    added one after the other in float32.
    """
    integers_TBI, scale_TB = quantize_activations(x)
    y = np.zeros((len(x), weight.shape[0]), np.float32)
    for start, stop in _row_tiles(weight):
        integers_OBI, scale_OB = unpack_rows(weight, np.arange(start, stop))
        for block in range(scale_OB.shape[1]):
            # At most 32 * 127 * 127 < 2^24: float32 holds every partial sum exactly, in any order.
            dot_TO = integers_TBI[:, block] @ integers_OBI[:, block].astype(np.float32).T
            y[:, start:stop] += dot_TO * (scale_TB[:, None, block] * scale_OB[:, block])
    return y


def quantize_activations(x: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Integers in -127..127 (T, blocks, 32), as float32, and scales (T, blocks) of activations (T, I).

    `s = max |x| / 127` and `q = rint(x / s)`; a scale of zero has q = 0. NaN stays NaN, in the scale.
    """
    T, columns = x.shape
    blocks = -(-columns // BLOCK_COLUMNS)
    x_TBI = np.pad(x, [(0, 0), (0, blocks * BLOCK_COLUMNS - columns)]).reshape(T, blocks, BLOCK_COLUMNS)
    scale_TB = np.abs(x_TBI).max(2) / np.float32(127)
    integers_TBI = np.divide(
        x_TBI, scale_TB[..., None], out=np.zeros_like(x_TBI), where=scale_TB[..., None] > 0
    )
    # A subnormal scale is rounded so far that the quotient can exceed 127.
    return np.clip(np.rint(integers_TBI), -127, 127), scale_TB


def _row_tiles(weight: Weight) -> Iterator[tuple[int, int]]:
    """Ranges of rows that widen to at most `TEMPORARY_NUMBERS`, as many at a time as are stored together."""
    rows, columns = weight.shape
    tall = row_multiple(weight)
    step = max(1, TEMPORARY_NUMBERS // (columns * tall)) * tall
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def rope(x: Float32Array, cos: Float32Array, sin: Float32Array) -> Float32Array:
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    y = np.empty(x.shape, np.float32)
    np.subtract(even * cos, odd * sin, out=y[..., 0::2])
    np.add(even * sin, odd * cos, out=y[..., 1::2])
    return y


def sigmoid(x: Float32Array) -> Float32Array:
    """`1 / (1 + exp(-x))` without overflow, and without cancellation for very negative x."""
    exponential = np.exp(-np.abs(x))
    numerator: Float32Array = np.where(x >= 0, np.float32(1), exponential)
    numerator /= np.float32(1) + exponential
    return numerator


def softmax(x: Float32Array) -> Float32Array:
    """Over the last dim; every row needs one finite number."""
    y: Float32Array = x - x.max(-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(-1, keepdims=True)
    return y


def swiglu(x: Float32Array, weights: FeedForward) -> Float32Array:
    gate = linear(x, weights.gate_proj)
    hidden = gate * sigmoid(gate)
    hidden *= linear(x, weights.up_proj)
    return linear(hidden, weights.down_proj)


def route(
    logits: Float32Array, bias: Float32Array | None, config: ModelConfig
) -> tuple[Int32Array, Float32Array]:
    if config.scoring_func == "sigmoid":
        assert bias is not None
        return _route_sigmoid(logits, bias, config)
    return _route_softmax(logits, config)


def _route_softmax(logits_TE: Float32Array, config: ModelConfig) -> tuple[Int32Array, Float32Array]:
    scores_TE = softmax(logits_TE)
    if config.topk_method == "group_limited_greedy":
        scores_TGe = _by_group(scores_TE, config)
        scores_TE = _outside_best_groups(scores_TE, scores_TGe.max(-1), 0.0, config)
    ids_TK = _largest(scores_TE, config.num_experts_per_tok)
    weights_TK = np.take_along_axis(scores_TE, ids_TK, axis=1)
    if config.norm_topk_prob and config.num_experts_per_tok > 1:
        return ids_TK, weights_TK / (weights_TK.sum(1, keepdims=True) + np.float32(1e-20))
    return ids_TK, weights_TK * np.float32(config.routed_scaling_factor)


def _route_sigmoid(
    logits_TE: Float32Array, bias_E: Float32Array, config: ModelConfig
) -> tuple[Int32Array, Float32Array]:
    scores_TE = sigmoid(logits_TE)
    scores_for_choice_TE = scores_TE + bias_E
    if config.n_group > 1:
        best_two_TG2 = np.partition(_by_group(scores_for_choice_TE, config), -2, axis=-1)[..., -2:]
        scores_for_choice_TE = _outside_best_groups(
            scores_for_choice_TE, best_two_TG2.sum(-1), -np.inf, config
        )
    ids_TK = _largest(scores_for_choice_TE, config.num_experts_per_tok)
    weights_TK = np.take_along_axis(scores_TE, ids_TK, axis=1)
    if config.norm_topk_prob:
        weights_TK /= weights_TK.sum(1, keepdims=True) + np.float32(1e-20)
    return ids_TK, weights_TK * np.float32(config.routed_scaling_factor)


def _by_group(scores_TE: Float32Array, config: ModelConfig) -> Float32Array:
    """View (T, G, E / G): a group is a run of neighbouring experts."""
    T, E = scores_TE.shape
    return scores_TE.reshape(T, config.n_group, E // config.n_group)


def _outside_best_groups(
    scores_TE: Float32Array, group_scores_TG: Float32Array, fill: float, config: ModelConfig
) -> Float32Array:
    """Scores with `fill` in every group but the `topk_group` best."""
    is_kept_TG = np.zeros(group_scores_TG.shape, bool)
    np.put_along_axis(is_kept_TG, _largest(group_scores_TG, config.topk_group), True, axis=1)
    scores_TGe = np.where(is_kept_TG[..., None], _by_group(scores_TE, config), np.float32(fill))
    return scores_TGe.reshape(scores_TE.shape)


def _largest(scores: Float32Array, count: int) -> Int32Array:
    """Ids of the `count` largest of each row, best first; the stable sort gives ties to the lowest id."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int32)


def experts(
    x: Float32Array, ids: Int32Array, weights: Float32Array, experts: Mapping[int, FeedForward]
) -> Float32Array:
    y = np.zeros(x.shape, np.float32)
    if len(x) == 1:  # a decoded token: no grouping, no copies
        for place in np.argsort(ids[0]).tolist():
            y += swiglu(x, experts[int(ids[0, place])]) * weights[0, place]
        return y
    for expert_id in np.unique(ids).tolist():
        tokens, places = np.nonzero(ids == expert_id)
        # Ids are distinct within a row, so no token appears twice and the indexed addition is safe.
        y[tokens] += swiglu(x[tokens], experts[expert_id]) * weights[tokens, places, None]
    return y


def expert_answers(
    x: Float32Array, ids: Int32Array, experts: Mapping[int, FeedForward], answers: Float32Array
) -> None:
    for expert_id in experts:
        tokens, places = np.nonzero(ids == expert_id)
        if len(tokens):
            answers[tokens, places] = swiglu(x[tokens], experts[expert_id])


def combine_experts(answers: Float32Array, ids: Int32Array, weights: Float32Array) -> Float32Array:
    T, _, D = answers.shape
    y, tokens = np.zeros((T, D), np.float32), np.arange(T)
    for places in np.argsort(ids, axis=1).T:  # of each token's experts the first, then the second, ...
        y += answers[tokens, places] * weights[tokens, places, None]
    return y


def store_latents(c_kv: Float32Array, k_pe: Float32Array, slots: Int64Array, pages: LatentPages) -> None:
    latents = np.concatenate([c_kv, k_pe], axis=1)
    positions = pages.reshape(-1, pages.shape[2])
    positions[slots] = bfloat16_bits(latents) if pages.dtype == np.uint16 else latents


def bfloat16_bits(x: Float32Array) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = x.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FC0), rounded).astype(np.uint16)


def gathered(pages: LatentPages, table: Int64Array, length: int) -> Float32Array:
    """The latents of all positions of a sequence side by side (S, C + R), as float32."""
    positions = pages[table[: -(-length // PAGE)]].reshape(-1, pages.shape[2])[:length]
    if positions.dtype == np.uint16:
        return widen(BFloat16(positions.view(np.uint16)))
    return positions.view(np.float32)


def _sequences(latents: Latents) -> Iterator[tuple[slice, Float32Array]]:
    """Of each sequence its rows of the queries, and its latents (S, C + R)."""
    stop = 0
    sequences = zip(latents.tables, latents.lengths.tolist(), latents.tokens.tolist(), strict=True)
    for table, length, tokens in sequences:
        start, stop = stop, stop + tokens
        yield slice(start, stop), gathered(latents.pages, table, length)


def mla_prefill(
    q_nope: Float32Array, q_pe: Float32Array, latents: Latents, kv_b_proj: Weight, scale: float
) -> Float32Array:
    """The expanded form, sequence by sequence."""
    w_HXC, y = _heads_of(q_nope, kv_b_proj)
    for rows, latent in _sequences(latents):
        _expanded(q_nope[rows], q_pe[rows], latent, w_HXC, scale, y[rows])
    return y


def mla_decode(
    q_nope: Float32Array, q_pe: Float32Array, latents: Latents, kv_b_proj: Weight, scale: float
) -> Float32Array:
    """The absorbed form, sequence by sequence."""
    w_HXC, y = _heads_of(q_nope, kv_b_proj)
    for rows, latent in _sequences(latents):
        _absorbed(q_nope[rows], q_pe[rows], latent, w_HXC, scale, y[rows])
    return y


def _heads_of(q_nope: Float32Array, kv_b_proj: Weight) -> tuple[Float32Array, Float32Array]:
    """The weight of each head (H, N + V, C), and room for what each query finds (T, H, V)."""
    T, H, N = q_nope.shape
    w_HXC = widen(kv_b_proj).reshape(H, -1, kv_b_proj.shape[1])
    return w_HXC, np.empty((T, H, w_HXC.shape[1] - N), np.float32)


def _expanded(
    q_nope: Float32Array,
    q_pe: Float32Array,
    latent: Float32Array,
    w_HXC: Float32Array,
    scale: float,
    y: Float32Array,
) -> None:
    """Keys and values of every position, for as many heads at a time as fit; writes y (T, H, V)."""
    T, H, N = q_nope.shape
    S, R, V = len(latent), q_pe.shape[-1], y.shape[-1]
    C = latent.shape[1] - R
    q_HTX = np.concatenate([q_nope, q_pe], axis=2).transpose(1, 0, 2) * np.float32(scale)

    step = max(1, TEMPORARY_NUMBERS // max(1, S * (N + R + V)))
    for heads in (slice(first, min(first + step, H)) for first in range(0, H, step)):
        w_uk_HNC, w_uv_HVC = w_HXC[heads, :N], w_HXC[heads, N:]
        k_HSX = np.empty((len(w_uk_HNC), S, N + R), np.float32)
        np.matmul(latent[:, :C], w_uk_HNC.transpose(0, 2, 1), out=k_HSX[..., :N])
        k_HSX[..., N:] = latent[:, C:]
        v_HSV = latent[:, :C] @ w_uv_HVC.transpose(0, 2, 1)
        for start, stop, seen in _query_tiles(T, S, len(k_HSX)):
            scores_HTS = q_HTX[heads, start:stop] @ k_HSX[:, :seen].transpose(0, 2, 1)
            attention_HTS = softmax(_without_future(scores_HTS))
            y[start:stop, heads] = (attention_HTS @ v_HSV[:, :seen]).transpose(1, 0, 2)


def _absorbed(
    q_nope: Float32Array,
    q_pe: Float32Array,
    latent: Float32Array,
    w_HXC: Float32Array,
    scale: float,
    y: Float32Array,
) -> None:
    """The heads of all queries against the latents in one product; writes y (T, H, V)."""
    T, H, N = q_nope.shape
    S, R = len(latent), q_pe.shape[-1]
    C = latent.shape[1] - R
    w_uk_HNC, w_uv_HVC = w_HXC[:, :N], w_HXC[:, N:]

    q_HTX = np.empty((H, T, C + R), np.float32)
    q_HTX[..., :C] = q_nope.transpose(1, 0, 2) @ w_uk_HNC
    q_HTX[..., C:] = q_pe.transpose(1, 0, 2)
    q_HTX *= np.float32(scale)

    for start, stop, seen in _query_tiles(T, S, H):
        queries = H * (stop - start)
        scores = q_HTX[:, start:stop].reshape(queries, C + R) @ latent[:seen].T
        attention_HTS = softmax(_without_future(scores.reshape(H, stop - start, seen)))
        mixed_HTC = (attention_HTS.reshape(queries, seen) @ latent[:seen, :C]).reshape(H, stop - start, C)
        y[start:stop] = (mixed_HTC @ w_uv_HVC.transpose(0, 2, 1)).transpose(1, 0, 2)


def _query_tiles(T: int, S: int, H: int) -> Iterator[tuple[int, int, int]]:
    """Queries `start:stop`, and how many positions the last of them sees, for scores of bounded size."""
    step = max(1, TEMPORARY_NUMBERS // max(1, H * S))
    for start in range(0, T, step):
        stop = min(start + step, T)
        yield start, stop, S - T + stop


def _without_future(scores_HTS: Float32Array) -> Float32Array:
    """The scores, changed in place to -inf behind each query; the last query sees every position."""
    T, S = scores_HTS.shape[1:]
    if T > 1:
        scores_HTS[:, np.arange(S) > np.arange(S - T, S)[:, None]] = -np.inf
    return scores_HTS


OPS = Ops(
    wants_float32=True,  # plain BLAS is fastest
    fp8_columns=1,
    hold=hold,
    embed=embed,
    rms_norm=rms_norm,
    linear=linear,
    rope=rope,
    swiglu=swiglu,
    route=route,
    experts=experts,
    expert_answers=expert_answers,
    combine_experts=combine_experts,
    store_latents=store_latents,
    mla_prefill=mla_prefill,
    mla_decode=mla_decode,
)
