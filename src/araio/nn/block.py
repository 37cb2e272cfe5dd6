"""`Block`: one transformer layer, attention and a dense or routed feed-forward part."""

from __future__ import annotations

from dataclasses import dataclass

from araio.nn.attention import Attention
from araio.nn.batch import Batch
from araio.nn.linear import SwiGLU
from araio.nn.moe import MoE
from araio.nn.norm import RMSNorm
from araio.tensors import Float32Array

__all__ = ["Block"]


@dataclass(frozen=True)
class Block:
    """One layer; its parts are named as in a checkpoint."""

    input_layernorm: RMSNorm
    self_attn: Attention
    post_attention_layernorm: RMSNorm
    mlp: SwiGLU | MoE

    def __call__(self, x: Float32Array, batch: Batch) -> Float32Array:
        """Map x (T, D) of a step's tokens to (T, D), writing their latents to the cache.

        Raises:
            Unwanted: as the batch said.
        """
        x = x + self.self_attn(self.input_layernorm(x), batch)
        batch.pause()
        y = self.post_attention_layernorm(x)
        return x + (self.mlp(y, x, batch) if isinstance(self.mlp, MoE) else self.mlp(y))
