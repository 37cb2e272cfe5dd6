"""The definition of attention in plain NumPy: the latent cache, and both forms of attending to it.

Part of `reference.py`. Both forms widen one whole weight, `kv_b_proj`, and bound every other temporary, so
that a long prompt fits. Contracts and formulas are in `ops.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from araio.kernels.ops import PAGE, Int64Array, LatentPages, Latents
from araio.kernels.widen import widen
from araio.tensors import BFloat16, Float32Array, Weight

__all__ = ["TEMPORARY_NUMBERS", "gathered", "mla_decode", "mla_prefill", "softmax", "store_latents"]

# Numbers in one temporary array (16 MiB of float32): 512 queries over 8,192 positions took 130 ms on a core,
# 160 ms with four times as many, which leave the cache, and 180 ms with a quarter, which makes thin products.
TEMPORARY_NUMBERS = 1 << 22


def softmax(x: Float32Array) -> Float32Array:
    """Over the last dim; every row needs one finite number."""
    y: Float32Array = x - x.max(-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(-1, keepdims=True)
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
