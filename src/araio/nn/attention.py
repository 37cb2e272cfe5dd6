"""Multi-head latent attention (DeepSeek-V2 report, section 2.1): projections around one of two kernels.

Queries come from one matrix, or from a low-rank pair (`q_lora_rank`); keys and values from a latent that all
heads share and that alone is cached. Read `kernels/ops.py` for the two forms, and `batch.py` for who decides
which one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from araio.config import ModelConfig
from araio.kernels.ops import Matrix, Ops
from araio.nn.batch import Batch
from araio.nn.linear import Linear
from araio.nn.norm import RMSNorm
from araio.nn.rope import softmax_scale
from araio.tensors import Float32Array

__all__ = ["Attention", "LowRankQuery"]


@dataclass(frozen=True)
class LowRankQuery:
    """Queries through a bottleneck of `q_lora_rank` numbers (DeepSeek-V2 report, equations 12 and 13)."""

    q_a_proj: Linear
    q_a_layernorm: RMSNorm
    q_b_proj: Linear

    def __call__(self, x: Float32Array) -> Float32Array:
        """Map x (T, D) to (T, H * (N + R))."""
        return self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))


@dataclass(frozen=True)
class Attention:
    """One layer's attention; `layer` is its place in the cache.

    q_proj              (T, D) -> (T, H * (N + R)); per head the part without position, then the rotary part
    kv_a_proj_with_mqa  (T, D) -> (T, C + R); the latent, then the rotary key that all heads share
    kv_a_layernorm      on the latent only
    kv_b_proj           (H * (N + V), C); per head the rows that make keys, then those that make values
    o_proj              (T, H * V) -> (T, D)
    """

    config: ModelConfig
    layer: int
    q_proj: Linear | LowRankQuery
    kv_a_proj_with_mqa: Linear
    kv_a_layernorm: RMSNorm
    kv_b_proj: Matrix
    o_proj: Linear
    ops: Ops

    @cached_property
    def scale(self) -> float:
        """What scores are multiplied by before the softmax."""
        return softmax_scale(self.config)

    def __call__(self, x: Float32Array, batch: Batch) -> Float32Array:
        """Write the latents of x (T, D), then attend, each token to its own sequence; returns (T, D)."""
        config, ops, T = self.config, self.ops, len(x)
        C, N, V = config.kv_lora_rank, config.qk_nope_head_dim, config.v_head_dim
        q = self.q_proj(x).reshape(T, config.num_attention_heads, config.qk_head_dim)
        rotation = batch.rotation
        q_nope, q_pe = q[..., :N], ops.rope(q[..., N:], rotation.cos, rotation.sin)

        latent = self.kv_a_proj_with_mqa(x)
        c_kv = self.kv_a_layernorm(latent[:, :C])
        k_pe = ops.rope(latent[:, None, C:], rotation.cos, rotation.sin)
        pages = batch.pool.layer(self.layer)
        ops.store_latents(c_kv, k_pe[:, 0], batch.slots, pages)

        found = []
        for span in batch.spans:
            attend = ops.mla_decode if span.absorbed else ops.mla_prefill
            rows, latents = span.rows, span.latents(pages)
            found.append(attend(q_nope[rows], q_pe[rows], latents, self.kv_b_proj, self.scale))
        y = found[0] if len(found) == 1 else np.concatenate(found)
        return self.o_proj(y.reshape(T, config.num_attention_heads * V))
