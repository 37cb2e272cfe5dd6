"""`Block`: one transformer layer, attention and a dense or routed feed-forward part."""

from __future__ import annotations

from dataclasses import dataclass

from araio.nn.attention import Attention
from araio.nn.kv_cache import LatentCache
from araio.nn.linear import SwiGLU
from araio.nn.moe import MoE
from araio.nn.norm import RMSNorm
from araio.nn.rope import Rotation
from araio.tensors import Float32Array

__all__ = ["Block"]


@dataclass(frozen=True)
class Block:
    """One layer; its parts are named as in a checkpoint."""

    input_layernorm: RMSNorm
    self_attn: Attention
    post_attention_layernorm: RMSNorm
    mlp: SwiGLU | MoE

    def __call__(self, x: Float32Array, rotation: Rotation, cache: LatentCache) -> Float32Array:
        """Map x (T, D) to (T, D), appending the step's latents to the cache."""
        x = x + self.self_attn(self.input_layernorm(x), rotation, cache)
        return x + self.mlp(self.post_attention_layernorm(x))
