"""The definition of every operation of `ops.Ops` in plain NumPy: complete, readable, the test of the others.

It favours few large array operations, so that a small model runs fast, and it bounds its temporaries, so that
a large matrix fits. Contracts and formulas are in `ops.py`. A product with a `Quantized` weight quantises the
activations too: see `_integer_linear`. Attention is in `reference_attention.py`. Read `native.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from araio.codecs.integers import unpack_rows
from araio.config import ModelConfig
from araio.kernels.ops import FeedForward, Int32Array, IntArray, Ops
from araio.kernels.reference_attention import (
    TEMPORARY_NUMBERS,
    mla_decode,
    mla_prefill,
    softmax,
    store_latents,
)
from araio.kernels.widen import row_multiple, rows_at, rows_of
from araio.tensors import BLOCK_COLUMNS, Float32Array, Quantized, Weight

__all__ = ["OPS"]


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
